"""Limits: what a contained command may use before it is stopped."""

from pydantic import Field

from charter.ground.settings.frozen import Frozen


class Limits(Frozen):
    """What one sandbox may use. Memory holds twice: for the address space of each process, and for what all
    processes of the sandbox hold together."""

    seconds: float = Field(10.0, gt=0, description="wall clock, counted from the moment the command starts")
    cpu_seconds: int = Field(10, ge=1, description="processor time of each process")
    memory_mb: int = Field(512, ge=64, description="MiB of memory, of each process and of all together")
    processes: int = Field(16, ge=1, description="processes and threads at a time, process 1 among them")
    disk_mb: int = Field(32, ge=1, description="MiB of the private file system, and of each file")
    files: int = Field(1024, ge=16, description="files and folders in the private file system")
    open_files: int = Field(64, ge=8, description="open files of each process")
    output_kb: int = Field(256, ge=1, description="KiB of standard output and error together")
