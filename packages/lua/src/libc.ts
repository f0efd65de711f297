/**
 * libc for LuaJIT programs: the C declarations, the constants of Linux on x86_64 and aarch64, and thin functions that throw an
 * `Errno`-carrying error text. Everything else in this package is built on this file.
 *
 * `C.<name>` is the bare call (returns -1, ask `errno()`); `check(what, result)` turns -1 into a thrown string.
 */
import * as ffi from "ffi";
import type { Bytes, CData } from "ffi";

export type { Bytes, CData };

ffi.cdef(`
typedef int pid_t; typedef unsigned int uid_t; typedef unsigned int gid_t; typedef long ssize_t; typedef long off_t; typedef unsigned int mode_t;
struct ul_iovec { void *iov_base; size_t iov_len; };
struct ul_msghdr { void *msg_name; unsigned int msg_namelen; struct ul_iovec *msg_iov; size_t msg_iovlen; void *msg_control; size_t msg_controllen; int msg_flags; };
struct ul_cmsg_fd { size_t cmsg_len; int cmsg_level; int cmsg_type; int fd; int pad; };
struct ul_sockaddr_un { unsigned short family; char path[108]; };
struct ul_pollfd { int fd; short events; short revents; };
struct ul_timespec { long tv_sec; long tv_nsec; };
struct ul_winsize { unsigned short row, col, xpixel, ypixel; };
struct ul_cap_header { unsigned int version; int pid; };
struct ul_cap_data { unsigned int effective, permitted, inheritable; };
struct ul_dirent { unsigned long d_ino; long d_off; unsigned short d_reclen; unsigned char d_type; char d_name[256]; };
struct ul_rlimit { unsigned long cur, max; };
ssize_t read(int, void *, size_t); ssize_t write(int, const void *, size_t); int open(const char *, int, ...); int close(int);
off_t lseek(int, off_t, int); int ftruncate(int, off_t); int fsync(int);
int socket(int, int, int); int connect(int, const void *, unsigned int); int bind(int, const void *, unsigned int); int listen(int, int);
int accept4(int, void *, void *, int); int shutdown(int, int); int socketpair(int, int, int, int *);
ssize_t sendmsg(int, const struct ul_msghdr *, int); ssize_t recvmsg(int, struct ul_msghdr *, int);
pid_t fork(void); int execve(const char *, const char *const *, const char *const *); pid_t waitpid(pid_t, int *, int); void _exit(int);
int kill(pid_t, int); pid_t getpid(void); pid_t getppid(void); pid_t setsid(void); int setpgid(pid_t, pid_t); uid_t getuid(void);
int unshare(int); int setns(int, int);
int mount(const char *, const char *, const char *, unsigned long, const void *); int umount2(const char *, int); int pivot_root(const char *, const char *);
int mkdir(const char *, mode_t); int rmdir(const char *); int unlink(const char *); int rename(const char *, const char *); int symlink(const char *, const char *);
int link(const char *, const char *); ssize_t readlink(const char *, char *, size_t); int access(const char *, int);
int chmod(const char *, mode_t); int fchmod(int, mode_t); int chown(const char *, uid_t, gid_t); int lchown(const char *, uid_t, gid_t); int fchown(int, uid_t, gid_t);
int mknod(const char *, mode_t, unsigned long); mode_t umask(mode_t);
int chdir(const char *); int fchdir(int); int chroot(const char *);
int setuid(uid_t); int setgid(gid_t); int setgroups(size_t, const gid_t *); int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);
int capset(struct ul_cap_header *, const struct ul_cap_data *); int setrlimit(int, const struct ul_rlimit *); int setpriority(int, int, int);
int poll(struct ul_pollfd *, unsigned long, int); int pipe2(int *, int); int dup2(int, int); int dup3(int, int, int); int fcntl(int, int, ...);
int sethostname(const char *, size_t); int ioctl(int, unsigned long, ...);
int signalfd(int, const void *, int); int sigprocmask(int, const void *, void *); int sigemptyset(void *); int sigaddset(void *, int); int sigfillset(void *);
int clock_gettime(int, struct ul_timespec *); int nanosleep(const struct ul_timespec *, void *);
char *getenv(const char *); int setenv(const char *, const char *, int); char *strerror(int); extern char **environ;
void *opendir(const char *); struct ul_dirent *readdir(void *); int closedir(void *); int getpagesize(void);
`);

/** @noSelf */
export interface Libc {
  read(fd: number, buffer: CData, size: number): number;
  write(fd: number, data: string | CData, size: number): number;
  open(path: string, flags: number, mode?: CData): number;
  close(fd: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  ftruncate(fd: number, size: number): number;
  fsync(fd: number): number;
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: CData, size: number): number;
  bind(fd: number, address: CData, size: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: CData | undefined, size: CData | undefined, flags: number): number;
  shutdown(fd: number, how: number): number;
  socketpair(domain: number, type: number, protocol: number, pair: CData): number;
  sendmsg(fd: number, message: CData, flags: number): number;
  recvmsg(fd: number, message: CData, flags: number): number;
  fork(): number;
  execve(path: string, argv: CData, env: CData): number;
  waitpid(pid: number, status: CData | undefined, options: number): number;
  _exit(code: number): never;
  kill(pid: number, signal: number): number;
  getpid(): number;
  getppid(): number;
  setsid(): number;
  setpgid(pid: number, pgid: number): number;
  getuid(): number;
  unshare(flags: number): number;
  setns(fd: number, type: number): number;
  mount(
    source: string | undefined,
    target: string,
    type: string | undefined,
    flags: number,
    data: string | undefined,
  ): number;
  umount2(target: string, flags: number): number;
  pivot_root(newRoot: string, putOld: string): number;
  mkdir(path: string, mode: number): number;
  rmdir(path: string): number;
  unlink(path: string): number;
  rename(from: string, to: string): number;
  symlink(target: string, path: string): number;
  link(from: string, to: string): number;
  readlink(path: string, buffer: CData, size: number): number;
  access(path: string, mode: number): number;
  chmod(path: string, mode: number): number;
  fchmod(fd: number, mode: number): number;
  chown(path: string, uid: number, gid: number): number;
  lchown(path: string, uid: number, gid: number): number;
  fchown(fd: number, uid: number, gid: number): number;
  mknod(path: string, mode: number, device: number): number;
  umask(mask: number): number;
  chdir(path: string): number;
  fchdir(fd: number): number;
  chroot(path: string): number;
  setuid(uid: number): number;
  setgid(gid: number): number;
  setgroups(count: number, groups: CData | undefined): number;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  capset(header: CData, data: CData): number;
  setrlimit(resource: number, limit: CData): number;
  setpriority(which: number, who: number, value: number): number;
  poll(fds: CData, count: number, timeoutMs: number): number;
  pipe2(pair: CData, flags: number): number;
  dup2(from: number, to: number): number;
  dup3(from: number, to: number, flags: number): number;
  fcntl(fd: number, command: number, argument?: CData): number;
  sethostname(name: string, size: number): number;
  ioctl(fd: number, request: number, argument?: CData): number;
  signalfd(fd: number, mask: CData, flags: number): number;
  sigprocmask(how: number, mask: CData, old: CData | undefined): number;
  sigemptyset(mask: CData): number;
  sigaddset(mask: CData, signal: number): number;
  sigfillset(mask: CData): number;
  clock_gettime(clock: number, time: CData): number;
  nanosleep(time: CData, left: CData | undefined): number;
  getenv(name: string): CData | undefined;
  setenv(name: string, value: string, overwrite: number): number;
  strerror(code: number): CData;
  readonly environ: CData;
  opendir(path: string): CData | undefined;
  readdir(directory: CData): CData | undefined;
  closedir(directory: CData): number;
}

/** libc's symbols, called directly. */
export const C: Libc = ffi.C as Libc;

export const O_RDONLY = 0,
  O_WRONLY = 1,
  O_RDWR = 2,
  O_CREAT = 0x40,
  O_EXCL = 0x80,
  O_NOCTTY = 0x100,
  O_TRUNC = 0x200,
  O_APPEND = 0x400,
  O_NONBLOCK = 0x800,
  O_CLOEXEC = 0x80000;
export const AF_UNIX = 1,
  AF_INET = 2,
  SOCK_STREAM = 1,
  SOCK_DGRAM = 2,
  SOCK_NONBLOCK = 0x800,
  SOCK_CLOEXEC = 0x80000,
  SOL_SOCKET = 1,
  SCM_RIGHTS = 1;
export const SHUT_RD = 0,
  SHUT_WR = 1,
  SHUT_RDWR = 2;
export const POLLIN = 1,
  POLLOUT = 4,
  POLLERR = 8,
  POLLHUP = 16,
  POLLNVAL = 32;
export const CLONE_NEWNS = 0x20000,
  CLONE_NEWCGROUP = 0x2000000,
  CLONE_NEWUTS = 0x4000000,
  CLONE_NEWIPC = 0x8000000,
  CLONE_NEWPID = 0x20000000,
  CLONE_NEWNET = 0x40000000,
  CLONE_FS = 0x200;
export const MS_RDONLY = 1,
  MS_NOSUID = 2,
  MS_NODEV = 4,
  MS_NOEXEC = 8,
  MS_REMOUNT = 32,
  MS_BIND = 4096,
  MS_REC = 16384,
  MS_PRIVATE = 1 << 18,
  MS_SLAVE = 1 << 19,
  MS_SHARED = 1 << 20;
export const MNT_DETACH = 2;
export const WNOHANG = 1;
export const SIGHUP = 1,
  SIGINT = 2,
  SIGQUIT = 3,
  SIGKILL = 9,
  SIGPIPE = 13,
  SIGTERM = 15,
  SIGCHLD = 17;
export const PR_SET_PDEATHSIG = 1,
  PR_SET_NAME = 15,
  PR_CAPBSET_DROP = 24,
  PR_SET_CHILD_SUBREAPER = 36,
  PR_SET_NO_NEW_PRIVS = 38,
  PR_SET_KEEPCAPS = 8,
  PR_CAP_AMBIENT = 47;
export const ENOENT = 2,
  ESRCH = 3,
  EINTR = 4,
  EAGAIN = 11,
  EEXIST = 17,
  ENOTDIR = 20,
  EINVAL = 22,
  EBUSY = 16,
  EPERM = 1,
  ECHILD = 10;
export const F_OK = 0,
  X_OK = 1,
  W_OK = 2,
  R_OK = 4;

/** errno of the call just made. */
export function errno(): number {
  return ffi.errno();
}

export function strerror(code: number): string {
  return ffi.string(C.strerror(code));
}

/** Throws `Cannot <what>: <reason>` when `result` is negative; otherwise returns it. */
export function check(what: string, result: number): number {
  if (result < 0) error(`Cannot ${what}: ${strerror(ffi.errno())}`, 0);
  return result;
}

/** A C int for variadic calls (open's mode, fcntl's argument). */
export function int(value: number): CData {
  return ffi.cast("int", value);
}

export function newBytes(size: number): Bytes {
  return makeCData<Bytes>("uint8_t[?]", size);
}

/** `ffi.new`, which is a reserved word as an import. */
export function makeCData<T extends CData = CData>(type: string, ...values: unknown[]): T {
  return (ffi as unknown as Record<string, (this: void, type: string, ...values: unknown[]) => T>)["new"](
    type,
    ...values,
  );
}

export function toText(value: CData, length?: number): string {
  return length === undefined ? ffi.string(value) : ffi.string(value, length);
}

export function getenv(name: string): string | undefined {
  const value = C.getenv(name);
  return value === undefined || value === makeNull() ? undefined : ffi.string(value);
}

export function makeNull(): CData {
  return ffi.cast("void *", 0);
}

/** Nanosecond clock as [seconds, nanoseconds]; clock 0 is the wall clock, 1 the monotonic one. */
export function clock(which: 0 | 1): LuaMultiReturn<[number, number]> {
  const time = makeCData<CData & { tv_sec: number; tv_nsec: number }>("struct ul_timespec");
  C.clock_gettime(which, time);
  return $multi(tonumber(time.tv_sec)!, tonumber(time.tv_nsec)!);
}

export function monotonicMs(): number {
  const [seconds, nanos] = clock(1);
  return seconds * 1000 + nanos / 1e6;
}

/** A NULL-ended `char *[]` and the strings that must stay alive with it. */
export function stringArray(values: string[]): CData {
  const array = makeCData<CData & { [index: number]: unknown }>("const char *[?]", values.length + 1);
  for (let i = 0; i < values.length; i++) array[i] = values[i];
  return array;
}

/** Runs `file` (default `argv[0]`, a path); only returns (throws) when it fails. */
export function exec(argv: string[], env: string[], file = argv[0]!): never {
  const argvArray = stringArray(argv);
  const envArray = stringArray(env);
  C.execve(file, argvArray, envArray);
  error(`Cannot run ${file}: ${strerror(ffi.errno())}`, 0);
}
