// The first process of scripts/kernel-lab's machine. It lays a writable layer over the outer machine's files, runs one
// command there as root and powers the machine off.
//
// /command, which scripts/kernel-lab writes, holds strings that each end with a zero byte: "merge" or "apart" (whether
// standard error goes where standard output goes), the working folder, the environment's entries, an empty string, and
// the command with its arguments. Output leaves by the virtio ports 1 and 2 byte for byte; port 3 takes the exit status.
// The initramfs has no libraries: the program is linked statically.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void power_off(void) {
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

// Says what failed on the kernel's console, whose end scripts/kernel-lab shows, and ends the machine without a status.
static void fail(const char *what) {
    fprintf(stderr, "kernel-lab: %s: %s\n", what, strerror(errno));
    power_off();
}

static void attach(const char *kind, const char *source, const char *place, unsigned long flags, const char *options) {
    mkdir(place, 0755);
    if (mount(source, place, kind, flags, options) != 0) fail(place);
}

// The outer machine's files under a layer in memory, with this kernel's own file systems in their places.
static void make_root(void) {
    attach("9p", "host", "/host", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=1048576,cache=loose");
    attach("tmpfs", "layer", "/layer", 0, "size=80%,mode=0755");
    if (mkdir("/layer/upper", 0755) != 0 || mkdir("/layer/work", 0755) != 0) fail("/layer");
    attach("overlay", "overlay", "/root", 0, "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work");
    attach("proc", "proc", "/root/proc", 0, NULL);
    attach("sysfs", "sysfs", "/root/sys", 0, NULL);
    attach("devtmpfs", "devtmpfs", "/root/dev", 0, NULL);
    attach("tmpfs", "tmpfs", "/root/dev/shm", 0, "mode=1777");
    attach("devpts", "devpts", "/root/dev/pts", 0, "ptmxmode=0666");
    attach("tmpfs", "tmpfs", "/root/run", 0, "mode=0755");
    attach("cgroup2", "cgroup2", "/root/sys/fs/cgroup", 0, NULL);
    attach("debugfs", "debugfs", "/root/sys/kernel/debug", 0, NULL);
    // Without this the kernel counts key ids, but shows neither how many there are nor how many are taken.
    int control = open("/root/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
    if (control < 0 || write(control, "+misc", 5) != 5) fail("cgroup.subtree_control");
    close(control);
    if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0) fail("the new root");
}

static void start_loopback(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request) != 0) fail("the loopback interface");
    close(any);
}

// Ports appear some time after their device; a minute is far more than an emulated processor takes.
static int open_port(int number) {
    // The first number is that of the one device among all virtio devices.
    char pattern[32];
    snprintf(pattern, sizeof pattern, "/dev/vport*p%d", number);
    for (int round = 0; round < 6000; round++) {
        glob_t found = {0};
        int port = glob(pattern, 0, NULL, &found) == 0 ? open(found.gl_pathv[0], O_WRONLY | O_CLOEXEC) : -1;
        globfree(&found);
        if (port >= 0) return port;
        usleep(10000);
    }
    errno = ETIMEDOUT;
    fail(pattern);
    return -1;
}

static void write_all(int port, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t done = write(port, bytes, count);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) fail("output");
        bytes += done;
        count -= (size_t)done;
    }
}

struct command {
    bool merge;
    const char *folder;
    char **environment, **arguments;
};

static struct command read_command(void) {
    static char text[4 << 20];
    static char *strings[1 << 16];
    int file = open("/command", O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    for (ssize_t part; file >= 0 && size < sizeof text; size += (size_t)part) {
        part = read(file, text + size, sizeof text - size);
        if (part < 0) fail("/command");
        if (part == 0) break;
    }
    close(file);
    size_t count = 0, empty = 0;
    for (size_t place = 0; place < size && count + 1 < sizeof strings / sizeof *strings; place += strlen(text + place) + 1) {
        if (empty == 0 && text[place] == '\0') {
            empty = count;
            strings[count++] = NULL;
        } else {
            strings[count++] = text + place;
        }
    }
    errno = EINVAL;
    if (size == sizeof text || empty < 2 || strings[empty + 1] == NULL) fail("/command");
    return (struct command){strcmp(strings[0], "merge") == 0, strings[1], strings + 2, strings + empty + 1};
}

static void run(const struct command *command, int output, int error) {
    int nothing = open("/dev/null", O_RDONLY);
    if (setsid() < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(error, 2) < 0) _exit(125);
    if (nothing > 2) close(nothing);
    if (chdir(command->folder) != 0) {
        fprintf(stderr, "kernel-lab: %s: %s\n", command->folder, strerror(errno));
        _exit(125);
    }
    environ = command->environment;
    execvp(command->arguments[0], command->arguments);
    int reason = errno;
    fprintf(stderr, "kernel-lab: %s: %s\n", command->arguments[0], strerror(reason));
    _exit(reason == ENOENT ? 127 : 126);
}

// Sends on what a pipe holds now.
static void forward(int pipe, int port) {
    static char bytes[64 << 10];
    for (;;) {
        ssize_t count = read(pipe, bytes, sizeof bytes);
        if (count > 0) write_all(port, bytes, (size_t)count);
        else if (count == 0 || errno == EAGAIN) return;
        else if (errno != EINTR) fail("a pipe");
    }
}

static void child_ended(int signal) { (void)signal; }

int main(void) {
    attach("devtmpfs", "devtmpfs", "/dev", 0, NULL);
    struct command command = read_command();
    make_root();
    start_loopback();
    int ports[2] = {open_port(1), open_port(2)}, result = open_port(3);
    int pipes[2][2];
    for (int i = 0; i < 2; i++)
        if (pipe2(pipes[i], O_CLOEXEC) != 0 || fcntl(pipes[i][0], F_SETFL, O_NONBLOCK) != 0) fail("a pipe");

    // Children's ends interrupt ppoll and nothing else.
    sigset_t blocked, open_to_all;
    sigemptyset(&open_to_all);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = child_ended}, NULL);
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &open_to_all, NULL);
        run(&command, pipes[0][1], pipes[command.merge ? 0 : 1][1]);
    }
    // The process keeps the writing ends, so that a pipe never ends while others may still be given its output.
    int status = -1;
    while (status < 0) {
        struct pollfd waits[2] = {{.fd = pipes[0][0], .events = POLLIN}, {.fd = pipes[1][0], .events = POLLIN}};
        if (ppoll(waits, 2, NULL, &open_to_all) < 0 && errno != EINTR) fail("ppoll");
        for (int i = 0; i < 2; i++) forward(pipes[i][0], ports[i]);
        int how;
        for (pid_t ended; (ended = waitpid(-1, &how, WNOHANG)) > 0;)
            if (ended == child) status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
    }
    for (int i = 0; i < 2; i++) forward(pipes[i][0], ports[i]);
    char text[16];
    write_all(result, text, (size_t)snprintf(text, sizeof text, "%d\n", status));
    power_off();
}
