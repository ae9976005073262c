"""uvicorn's supervisor, and what it lacks: workers reload at SIGHUP, and one that cannot start ends no other."""

import logging
import os
import signal
from typing import Final

from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

log = logging.getLogger("neocog.server")

RESTART_PAUSE: Final = 2  # seconds before another try to start a worker that could not start


class Workers(Multiprocess):
    """uvicorn's supervisor: it starts a worker again that dies. At SIGHUP the workers reload, and do not end."""

    _served = False  # whether any worker has ever been ready

    def handle_hup(self) -> None:
        """Lets each worker load the new bundle beside the old one. uvicorn would restart them all.

        A worker that is still starting loads the new bundle anyway, and SIGHUP would end it.
        """
        for process in self.processes:
            if process.pid is not None and process.is_ready():
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Starts a worker again that died.

        uvicorn ends all workers when one cannot start. Here the others go on, unless none has ever been ready: a bad
        bundle in the folder is no reason to stop serving the one that is loaded.
        """
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                self._served = self._served or process.is_ready()
                continue
            process.kill()  # it may hang
            process.join()
            multiprocess.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            if process.exitcode == STARTUP_FAILURE:
                if not self._served:
                    self.should_exit.set()
                    return
                log.error("worker %s could not start; another try in %s seconds", process.pid, RESTART_PAUSE)
                self.should_exit.wait(RESTART_PAUSE)
            else:
                log.error("worker %s died, and is started again", process.pid)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()
