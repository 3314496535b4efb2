"""Docker and Podman of several releases, each as a private server on a unix socket."""
