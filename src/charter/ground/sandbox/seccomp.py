"""The filter of system calls: those that a Python program needs are listed, and every other fails.

A call that isn't listed answers "not permitted"; one that is newer than the list, or whose work the C library can
do by an older one, answers "no such call", so that the caller falls back. A call kills a process only if it
is of another architecture. Calls with many uses pass by their arguments: no new namespaces, sockets only of families
that a network namespace contains (vsock reaches the host of a virtual machine), no buffers of the kernel beyond
their defaults, no holds on processes or files that others use. seccomp(2): classic BPF over `struct seccomp_data`.
"""

import errno
import platform
import struct

from charter.ground.artifact.errors import CharterError

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_* of linux/audit.h

# purpose: name, number on x86_64, on aarch64 (-: no such call there); of arch/*/include/uapi/asm/unistd.h
_ALLOWED = {
    "reading and writing": """
        read 0 63, write 1 64, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69,
        pwritev 296 70, lseek 8 62, sendfile 40 71, copy_file_range 326 285, fsync 74 82, fdatasync 75 83,
        ftruncate 77 46, truncate 76 45, fallocate 285 47
    """,
    "descriptors": """
        open 2 -, openat 257 56, openat2 437 437, creat 85 -, close 3 57, close_range 436 436, dup 32 23,
        dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59
    """,
    "what is known of files": """
        stat 4 -, lstat 6 -, fstat 5 80, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44,
        access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78,
        getdents 78 -, getdents64 217 61, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
        listxattr 194 11, llistxattr 195 12, flistxattr 196 13
    """,
    "names, folders, modes": """
        mkdir 83 -, mkdirat 258 34, rmdir 84 -, rename 82 -, renameat 264 38, renameat2 316 276,
        link 86 -, linkat 265 37, unlink 87 -, unlinkat 263 35, symlink 88 -, symlinkat 266 36,
        mknod 133 -, mknodat 259 33, chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452,
        chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54, umask 95 166, utime 132 -, utimes 235 -,
        futimesat 261 -, utimensat 280 88, getcwd 79 17, chdir 80 49, fchdir 81 50
    """,
    "memory": """
        brk 12 214, mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, msync 26 227
    """,
    "processes and threads": """
        fork 57 -, vfork 58 -, execve 59 221, exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95,
        set_tid_address 218 96, futex 202 98, set_robust_list 273 99, get_robust_list 274 100,
        rseq 334 293, arch_prctl 158 -, restart_syscall 219 128, sched_yield 24 124,
        sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120,
        sched_get_priority_max 146 125, sched_get_priority_min 147 126, sched_rr_get_interval 148 127,
        getpriority 140 141, getcpu 309 168
    """,
    "who one is, and one's limits": """
        getpid 39 172, getppid 110 173, gettid 186 178, getpgid 121 155, getpgrp 111 -, setpgid 109 154,
        getsid 124 156, setsid 112 157, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
        getresuid 118 148, getresgid 120 150, getgroups 115 158, capget 125 90, uname 63 160,
        getrusage 98 165, times 100 153, getrlimit 97 163, setrlimit 160 164
    """,
    "signals": """
        kill 62 129, tkill 200 130, tgkill 234 131, rt_sigaction 13 134, rt_sigprocmask 14 135,
        rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137, rt_sigsuspend 130 133,
        rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, sigaltstack 131 132, pause 34 -, alarm 37 -,
        getitimer 36 102, setitimer 38 103
    """,
    "time and chance": """
        nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
        gettimeofday 96 169, time 201 -, getrandom 318 278
    """,
    "waiting": """
        select 23 -, pselect6 270 72, poll 7 -, ppoll 271 73, epoll_create 213 -, epoll_create1 291 20,
        epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd 284 -,
        eventfd2 290 19, timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87
    """,
    "sockets": """
        bind 49 200, listen 50 201, accept 43 202, accept4 288 242, connect 42 203, getsockname 51 204,
        getpeername 52 205, sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212,
        sendmmsg 307 269, recvmmsg 299 243, shutdown 48 210
    """,
}
# the C library does their work by others; clone3's flags and what preadv2 tells of caches can't be filtered
_ABSENT = "clone3 435 435, preadv2 327 286, pwritev2 328 287"
_NEWEST = 450  # calls above it that aren't listed seem not to exist

# calls that pass by their arguments
_BY_ARGUMENT = """
    clone 56 220, socket 41 198, socketpair 53 199, prlimit64 302 261, fcntl 72 25, ioctl 16 29, prctl 157 167,
    setsockopt 54 208, getsockopt 55 209
"""
_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: a network namespace contains them
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)  # F_DUPFD, F_{GET,SET}FD, F_{GET,SET}FL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_RECORD_LOCKS = (6, 7)  # F_SETLK, F_SETLKW: they seem granted and lock nothing; sqlite3 asks for one a file
# TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2, FICLONE
_IOCTL = (0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A, 0x40049409)
# PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, PR_{SET,GET}_NO_NEW_PRIVS
_PRCTL = (1, 3, 15, 16, 23, 38, 39)
_SOL_SOCKET = 1
# SO_REUSEADDR, SO_BROADCAST, SO_KEEPALIVE, SO_LINGER, SO_REUSEPORT, SO_RCVTIMEO, SO_SNDTIMEO; no sizes of buffers
_SETSOCKOPT = (2, 6, 9, 13, 15, 20, 21)
# the same, and SO_TYPE, SO_ERROR, SO_{SND,RCV}BUF, SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN; no credentials of peers
_GETSOCKOPT = (*_SETSOCKOPT, 3, 4, 7, 8, 30, 38, 39)

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF operations
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*
_REFUSE, _NO_SUCH_CALL, _DONE = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS, _ERRNO


def calls(machine: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """The numbers by name of a machine's calls (named as by `uname -m`): allowed, allowed by argument, and absent.
    Raises CharterError for one whose calls are not listed here."""
    if machine not in _ARCHITECTURES:
        raise CharterError(f"no filter of system calls for {machine}: the sandbox runs on x86_64 and aarch64")
    column = 1 + list(_ARCHITECTURES).index(machine)

    def numbers(table: str) -> dict[str, int]:
        rows = [row.split() for row in table.split(",")]
        return {row[0]: int(row[column]) for row in rows if row[column] != "-"}

    return numbers(",".join(_ALLOWED.values())), numbers(_BY_ARGUMENT), numbers(_ABSENT)


def system_call_filter(machine: str | None = None) -> bytes:
    """The BPF program, as an array of `struct sock_filter`, for a machine's name as `uname -m` says it
    (None: this machine). Raises CharterError for one whose calls are not listed here."""
    name = machine or platform.machine()
    allowed, by_argument, absent = calls(name)
    steps = [_step(_LOAD, _ARCHITECTURE), *_unless(_EQUAL, _ARCHITECTURES[name], _KILL), _step(_LOAD, _NUMBER)]
    for number in allowed.values():
        steps += _if(_EQUAL, number, _ALLOW)
    for call, conditions in _conditions().items():
        steps += [_step(_EQUAL, by_argument[call], 0, len(conditions)), *conditions]
    for number in absent.values():
        steps += _if(_EQUAL, number, _NO_SUCH_CALL)
    steps += _if(_AT_LEAST, _NEWEST + 1, _NO_SUCH_CALL)  # those of x32 too, which start far above
    return b"".join([*steps, _step(_RETURN, _REFUSE)])


def _conditions() -> dict[str, list[bytes]]:
    """For each call that passes by its arguments, steps that end in a verdict."""
    family = [*_argument(0), *_among(_FAMILIES), _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT)]
    refuse = _step(_RETURN, _REFUSE)
    of_sockets = [*_argument(1), *_unless(_EQUAL, _SOL_SOCKET, _REFUSE), *_argument(2)]
    return {
        "clone": [*_argument(0), *_if(_ANY_BIT, _NAMESPACES, _REFUSE), _step(_RETURN, _ALLOW)],
        "socket": family,
        "socketpair": family,
        "prlimit64": [*_argument(0), *_among((0,)), refuse],  # on oneself
        "fcntl": [*_argument(1), *_among(_FCNTL), *_among(_RECORD_LOCKS, _DONE), refuse],
        "ioctl": [*_argument(1), *_among(_IOCTL), _step(_RETURN, _ERRNO | errno.ENOTTY)],
        "prctl": [*_argument(0), *_among(_PRCTL), refuse],
        "setsockopt": [*of_sockets, *_among(_SETSOCKOPT), refuse],
        "getsockopt": [*of_sockets, *_among(_GETSOCKOPT), refuse],
    }


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, operand)


def _if(test: int, operand: int, verdict: int) -> list[bytes]:
    return [_step(test, operand, 0, 1), _step(_RETURN, verdict)]


def _unless(test: int, operand: int, verdict: int) -> list[bytes]:
    return [_step(test, operand, 1, 0), _step(_RETURN, verdict)]


def _argument(place: int) -> list[bytes]:
    """Load the low half of an argument; the kernel reads no more of those that are looked at."""
    return [_step(_LOAD, _ARGUMENTS + 8 * place)]


def _among(values: tuple[int, ...], verdict: int = _ALLOW) -> list[bytes]:
    return [step for value in values for step in _if(_EQUAL, value, verdict)]
