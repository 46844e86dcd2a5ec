"""The filter of system calls: calls that widen what a process sees, or take memory that no limit counts, fail.

Namespaces already make most of them harmless. The filter keeps the rest of the kernel out of reach: further
namespaces and mounts, other processes' memory, keys, tracing, rings, memory without an address (memfd, System V),
sockets of families that no network namespace contains (vsock reaches the host of a virtual machine), and process
1's priority and limits. It is a deny list: seccomp(2), classic BPF over `struct seccomp_data`.
"""

import errno
import platform
import struct

from charter.ground.artifact.errors import CharterError

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_* of linux/audit.h

# name: number on x86_64, on aarch64 (-1: no such call there); numbers of arch/*/include/uapi/asm/unistd.h
_DENIED = {
    # namespaces, mounts, roots
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    # memory that neither the address space nor the private file system counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # what others on this machine do with files that are shown
    "inotify_init": (253, -1),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "flock": (73, 32),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "cachestat": (451, 451),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    # wide parts of the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "modify_ldt": (154, -1),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, -1),
    "ioperm": (173, -1),
}
_CLONE = (56, 220)  # allowed, but not into namespaces
_CLONE3 = (435, 435)  # its flags lie in memory; told "no such call", the C library falls back to clone
_SOCKET = (41, 198)  # allowed for the families below
_PRLIMIT = (302, 261)  # allowed on oneself
_FCNTL = (72, 25)  # allowed, but for locks, leases and notices on files that others have open
_LOCKS = (6, 7, 37, 38, 1024, 1026)  # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_NOTIFY
_SETSOCKOPT, _GETSOCKOPT = (54, 208), (55, 209)
_BUFFERS = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF and their FORCE: memory of the kernel, which no limit counts
_PEERPIDFD = (77,)  # SO_PEERPIDFD: a hold on the process at the channel's other end
_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: a network namespace contains them
_X32 = 0x40000000  # numbers of the x32 calls start here

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF operations
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*


def system_call_filter(machine: str | None = None) -> bytes:
    """The BPF program, as an array of `struct sock_filter`, for a machine's name as `uname -m` says it
    (None: this machine). Raises CharterError for one whose calls are not listed here."""
    name = machine or platform.machine()
    if name not in _ARCHITECTURES:
        raise CharterError(f"no filter of system calls for {name}: the sandbox runs on x86_64 and aarch64")
    column = list(_ARCHITECTURES).index(name)
    refuse, absent, family = (_ERRNO | e for e in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT))
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        *_unless(_EQUAL, _ARCHITECTURES[name], _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if name == "x86_64":
        steps += _if(_AT_LEAST, _X32, absent)
    for numbers in _DENIED.values():
        if numbers[column] >= 0:
            steps += _if(_EQUAL, numbers[column], refuse)
    steps += _if(_EQUAL, _CLONE3[column], absent)
    steps += _when(_CLONE[column], [*_if(_ANY_BIT, _NAMESPACES, refuse), _step(_RETURN, _ALLOW)])
    allowed = [step for number in _FAMILIES for step in _if(_EQUAL, number, _ALLOW)]
    steps += _when(_SOCKET[column], [*allowed, _step(_RETURN, family)])
    steps += _when(_PRLIMIT[column], [*_unless(_EQUAL, 0, refuse), _step(_RETURN, _ALLOW)])
    for call, argument, values in (
        (_FCNTL, 1, _LOCKS),
        (_SETSOCKOPT, 2, _BUFFERS),
        (_GETSOCKOPT, 2, _PEERPIDFD),
    ):
        refused = [step for value in values for step in _if(_EQUAL, value, refuse)]
        steps += _when(call[column], [*refused, _step(_RETURN, _ALLOW)], argument)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, operand)


def _if(test: int, operand: int, verdict: int) -> list[bytes]:
    return [_step(test, operand, 0, 1), _step(_RETURN, verdict)]


def _unless(test: int, operand: int, verdict: int) -> list[bytes]:
    return [_step(test, operand, 1, 0), _step(_RETURN, verdict)]


def _when(number: int, rest: list[bytes], argument: int = 0) -> list[bytes]:
    """Steps that look at the low half of one argument of one call; they must end in a verdict."""
    return [_step(_EQUAL, number, 0, len(rest) + 1), _step(_LOAD, _ARGUMENTS + 8 * argument), *rest]
