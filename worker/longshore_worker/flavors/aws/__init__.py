"""``aws``: Amazon Elastic Container Registry (ECR), in every partition."""

from longshore_worker.flavors.aws.registry import AwsRegistry

__all__ = ["AwsRegistry"]
