"""Lists of repositories: asked as a worker asks, and given by scripted clouds."""

from __future__ import annotations

from tests.support.scripted_servers.cloud_tokens import Asked, FakeCloud, Reply
from tests.support.servers.ecr import ACCOUNT, REGION
from transship_worker import BaseContainerRegistry
from transship_worker.flavors.listing import repositories
from transship_worker.oci.pool import ClientPool

ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
HUB_LIST = "/v2/namespaces/acme/repositories"
GOOGLE_LIST = "/v1/projects/my-acme/locations/europe-west3/repositories/ml/packages"
GOOGLE_URI = "europe-west3-docker.pkg.dev/my-acme/ml"
TOKEN = {"username": "oauth2accesstoken", "password": "hunter22-secret"}


async def listed(component: BaseContainerRegistry) -> list[list[str]]:
    """All pages of a component's repositories, asked as a worker does."""

    async with ClientPool({}) as pool:
        client = pool.client(component.registry_endpoint)
        return [page async for page in repositories(component, client)]


def google(cloud: FakeCloud, *pages: list[str], path: str = GOOGLE_LIST) -> None:
    """Artifact Registry's list, a page after the other."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.fields.get("pageToken", "0/x").partition("/")[0])
        parent = path.removeprefix("/v1/")
        packages = [{"name": f"{parent}/{name}"} for name in pages[number]]
        more = {"nextPageToken": f"{number + 1}/x+&y"} if number + 1 < len(pages) else {}
        return Reply(body={"packages": packages, **more})

    cloud.answers[path] = answer


def hub(cloud: FakeCloud, *pages: list[str]) -> None:
    """Docker Hub's list of a namespace, a page after the other."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.fields.get("page", "1"))
        following = f"{cloud.url}{HUB_LIST}?page={number + 1}&page_size=100"
        results = [{"name": name, "namespace": "acme"} for name in pages[number - 1]]
        more = following if number < len(pages) else None
        return Reply(body={"count": 7, "next": more, "previous": None, "results": results})

    cloud.answers[HUB_LIST] = answer
