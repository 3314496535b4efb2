"""Migrations: what is to be copied is planned here, and becomes jobs."""
