"""A Ray job seen from outside its cluster: submitted once, followed to its end, told to stop."""

import asyncio
import logging
import sys
import time
from typing import Any

from ..pipeline.errors import UsageError

log = logging.getLogger(__name__)

# How long a job server may stay silent before its job is taken for lost.
LOST_SECONDS = 120.0
_POLL_SECONDS = 1.0


class RayJobs:
    """The job server of a cluster.

    Args:
        address: its URL, ``http://HOST:8265``; that of RAY_API_SERVER_ADDRESS or RAY_ADDRESS when
            None.

    Raises:
        UsageError: it does not answer, or ray is not installed.
    """

    def __init__(self, address: str | None) -> None:
        try:
            import aiohttp
            from ray.exceptions import RayError
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise UsageError(
                f"{error.name} is not installed; install unlearnable[ray] to submit jobs"
            ) from error
        try:
            self._client = JobSubmissionClient(address)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"no Ray job server answers at {address or 'RAY_ADDRESS'} ({reason}); give "
                f"--address http://HOST:8265, where the cluster's dashboard is, and if it asks for "
                f"a token RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from error
        self._trouble = (OSError, RuntimeError, RayError, aiohttp.ClientError)
        self._shown = 0

    def begin(self, name: str, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        """Return the submission id of the job ``name`` that runs, or of a new one.

        Raises:
            UsageError: the job server refuses it.
        """
        number = 0
        for job in self._client.list_jobs():
            job_name, _, tail = (job.submission_id or "").rpartition("-")
            if job_name != name or not tail.isdigit():
                continue
            if not job.status.is_terminal():
                log.info("this command runs as job %s already; following it", job.submission_id)
                return str(job.submission_id)
            number = max(number, int(tail) + 1)
        try:
            job_id = self._client.submit_job(
                entrypoint=entrypoint, submission_id=f"{name}-{number}", runtime_env=runtime_env
            )
        except (*self._trouble, TypeError, ValueError) as error:
            raise UsageError(f"the job was refused: {' '.join(str(error).split())}") from error
        log.info("submitted as job %s", job_id)
        return str(job_id)

    def follow(self, job: str, at_most: float = float("inf")) -> Any:
        """Copy the job's log to standard output and return its details when it has ended.

        Returns:
            ``ray.job_submission.JobDetails``, or None when the server was silent for
            ``LOST_SECONDS`` or the job was not over in ``at_most`` seconds.
        """
        end = time.monotonic() + at_most
        heard = time.monotonic()
        while time.monotonic() < end:
            try:
                asyncio.run(self._tail(job, end))
                details = self._client.get_job_info(job)
                if details.status.is_terminal():
                    return details
                heard = time.monotonic()
            except self._trouble as error:
                log.warning("job %s: %s; asking again", job, " ".join(str(error).split())[:200])
                if time.monotonic() - heard > LOST_SECONDS:
                    return None
            time.sleep(_POLL_SECONDS)
        return None

    def stop(self, job: str) -> None:
        """Tell the job to stop."""
        try:
            self._client.stop_job(job)
        except self._trouble as error:
            log.warning("cannot stop job %s: %s", job, " ".join(str(error).split())[:200])

    async def _tail(self, job: str, end: float) -> None:
        """Print what is new in the log until the server says that it ends."""
        seen = 0
        async for text in self._client.tail_job_logs(job):
            new = text[max(0, self._shown - seen) :]
            seen += len(text)
            if new:
                self._shown = seen
                sys.stdout.write(new)
                sys.stdout.flush()
            if time.monotonic() > end:
                return
