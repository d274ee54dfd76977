"""Where exports are kept: a folder that workers and API share, or a store that speaks S3 (boto3, the extra ``s3``)."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from jobplatform.errors import JobPlatformError, SettingsError, StoreError
from jobplatform.settings import Settings

log = logging.getLogger(__name__)

NO_BOTO = "JOBPLATFORM_EXPORTS is an S3 store, which needs boto3: pip install 'jobplatform[s3]'"
#: Bytes of one part, and parts that are sent at a time: what a large file takes of memory.
PART = 8 * 1024 * 1024
AT_A_TIME = 2


class Store(Protocol):
    """Keeps files under keys such as ``<workspace>/<export>.csv``. Raises :class:`StoreError`."""

    def put(self, key: str, path: Path, name: str, media_type: str) -> None:
        """Keep the file that is at ``path``. Nothing has the key before all of it is there."""

    def delete(self, key: str) -> None:
        """Delete it, and what there is of one that was never finished; one that is not there is fine."""

    def link(self, key: str, name: str, seconds: int) -> str | None:
        """A URL by which anybody can fetch it for so long; None where the API has to serve it."""


def open_store(settings: Settings) -> Store:
    """The store that the settings name. Raises :class:`SettingsError` when what it needs is not installed."""
    place = settings.exports
    if place is None or not place.startswith("s3://"):
        return FolderStore(Path(place) if place else settings.data_dir / "exports")
    parts = urlsplit(place)
    return S3Store(parts.netloc, parts.path.strip("/"), settings.exports_endpoint)


def require_store(settings: Settings, *, writes: bool) -> None:
    """Raise :class:`SettingsError` where what the settings name for exports cannot be used here, when a process starts.

    A worker ``writes`` there; the API reads what workers have written. Without the setting nothing is asked: the folder
    is made when it is needed.
    """
    if settings.exports is None:
        return
    store = open_store(settings)
    if isinstance(store, FolderStore) and (problem := _problem_of(store.folder, writes=writes)):
        raise SettingsError([f"JOBPLATFORM_EXPORTS={settings.exports}: {problem}"])


def _problem_of(folder: Path, *, writes: bool) -> str | None:
    shared = "API and workers have to share it: mount the same folder (or volume) into both, or use s3://"
    if not folder.exists():
        return f"this folder is not there. {shared}"
    if not folder.is_dir():
        return "this is no folder"
    needed = os.R_OK | os.X_OK | (os.W_OK if writes else 0)
    if os.access(folder, needed, effective_ids=os.access in os.supports_effective_ids):
        return None
    return f"the user {os.geteuid()} of this process may not {'write' if writes else 'read'} there. {shared}"


class FolderStore:
    """A folder. Its files are for the user of the processes, and their group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, key: str) -> Path:
        """Where the file is. A key that would lead out of the folder is a mistake of ours."""
        path = self.folder / key
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise StoreError(f"{key!r} is no key of an export")
        return path

    def put(self, key: str, path: Path, name: str, media_type: str) -> None:
        target = self.path_of(key)
        draft = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            shutil.copyfile(path, draft)
            draft.chmod(0o640)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StoreError(f"cannot write {target}: {error}") from error

    def delete(self, key: str) -> None:
        target = self.path_of(key)
        try:
            target.unlink(missing_ok=True)
            target.with_name(f".{target.name}.part").unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {target}: {error}") from error
        with contextlib.suppress(OSError):
            target.parent.rmdir()

    def link(self, key: str, name: str, seconds: int) -> str | None:
        return None


class S3Store:
    """A bucket, below a prefix. Credentials and region are found as boto3 finds them: environment, files, roles."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _client(endpoint)

    def put(self, key: str, path: Path, name: str, media_type: str) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=AT_A_TIME)
        about = {"ContentType": media_type, "ContentDisposition": f'attachment; filename="{name}"'}
        with _told(f"cannot write {self._at(key)}"):
            self._client.upload_file(str(path), self._bucket, self._prefix + key, ExtraArgs=about, Config=config)

    def delete(self, key: str) -> None:
        with _told(f"cannot delete {self._at(key)}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        self._abort_unfinished(key)

    def link(self, key: str, name: str, seconds: int) -> str | None:
        with _told(f"cannot make a link to {self._at(key)}"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._prefix + key,
                    "ResponseContentDisposition": f'attachment; filename="{name}"',
                },
                ExpiresIn=seconds,
            )
        return url

    def _abort_unfinished(self, key: str) -> None:
        """What a process had sent of the file when it was killed: no object, and kept (and paid for) like one. A store
        that lets us write may not let us look, which keeps nobody from deleting what is whole."""
        from botocore.exceptions import BotoCoreError, ClientError

        name = self._prefix + key
        try:
            for one in self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=name).get("Uploads", []):
                if one["Key"] == name:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=one["UploadId"])
        except (BotoCoreError, ClientError) as error:
            log.warning("unfinished uploads cannot be looked for", extra={"at": self._at(key), "reason": str(error)})

    def _at(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _client(endpoint: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise SettingsError([NO_BOTO]) from None
    config = Config(
        signature_version="s3v4",
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 5, "mode": "standard"},
        # A store of one's own has no name for each bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
        # What not every such store understands.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = None if not endpoint or os.environ.get("AWS_REGION") else os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)


@contextlib.contextmanager
def _told(what: str) -> Any:
    """Whatever boto3 raises, in words that name no credentials."""
    try:
        yield
    except JobPlatformError:
        raise
    except Exception as error:
        raise StoreError(f"{what}: {type(error).__name__}: {error}") from error
