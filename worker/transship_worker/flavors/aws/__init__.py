"""``aws``: Amazon Elastic Container Registry (ECR), in every partition."""

from transship_worker.flavors.aws.registry import AwsRegistry

__all__ = ["AwsRegistry"]
