"""What Kaggle's own tool makes of a bundle, with a client that answers nothing: a program.

    python official.py BUNDLE

Prints one JSON object: fields of the requests that would have been sent, and the files.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ |= {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "0" * 32}

from kaggle.api.kaggle_api_extended import KaggleApi


class Client:
    """Notes each request by the method that was called."""

    def __init__(self):
        self.requests = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        return self if name in SERVICES else self._noted(name)

    def _noted(self, name):
        def note(request):
            self.requests[name] = request
            return SimpleNamespace(error="", status="ok", url="", versionNumber=1)

        return note


SERVICES = {"kernels", "kernels_api_client", "datasets", "dataset_api_client"}


def main(folder):
    api, client, files = KaggleApi(), Client(), []

    def status(_):
        from requests.exceptions import HTTPError

        raise HTTPError("no such dataset")

    def upload(request, resources, place, *_):
        files.extend(sorted(each.name for each in Path(place).iterdir()))

    api.config_values = {"username": "me", "key": "0" * 32}
    api.build_kaggle_client = lambda: client
    api.dataset_status, api.upload_files = status, upload
    api.dataset_create_new(f"{folder}/dataset", dir_mode="zip")
    api.kernels_push(f"{folder}/notebook")
    kernel, dataset = client.requests["save_kernel"], client.requests["create_dataset"]
    told = {name: getattr(kernel, name) for name in OF_KERNEL}
    told |= {name: getattr(dataset, name) for name in OF_DATASET}
    print(json.dumps({**told, "files": files}))


OF_KERNEL = (
    *("new_title", "language", "kernel_type", "is_private", "enable_gpu", "enable_internet"),
    *("machine_shape", "dataset_data_sources", "competition_data_sources"),
)
OF_DATASET = ("title", "slug", "owner_slug", "license_name")


if __name__ == "__main__":
    main(sys.argv[1])
