/* SPDX-License-Identifier: Apache-2.0 */
/* A private Redis for a test program: own folder, own port, gone when the program ends. */
#include "tests/unit/redis_fixture.h"

#include "common/base/clock.h"
#include "common/base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 15000, POLL_MS = 5, PATH_SIZE = 96 };

struct redis_fixture {
    struct redis_fixture *next;
    char folder[PATH_SIZE]; /* has log and the socket */
    char url[64];
    char unix_url[PATH_SIZE + 32];
    int port;
    pid_t pid; /* 0: not running */
};

static struct redis_fixture *started;

const char redis_leases_script[] =
    "local raw, out = redis.call('GET', KEYS[1]) or '', 0 "
    "local size = #raw / 8 "
    "local state = {struct.unpack(string.rep('d', size), raw)} "
    "for at = (state[4] or 0) > 0 and 18 or 5, size, 2 do out = out + state[at + 1] end "
    "return out";

const char redis_book_script[] =
    "local key, field, value = KEYS[1], ARGV[1], ARGV[2] "
    "local name = ({gen = 'head', ver = 'head', live = 'head'})[field] or field "
    "local raw = redis.call('HGET', key, name) "
    "local head = {gen = name == 'head' and raw and raw:sub(17) or ''} "
    "if name == 'head' then "
    "  head.ver, head.live = struct.unpack('<dd', raw or string.rep('\\0', 16)) "
    "  if value then "
    "    head[field] = value "
    "    value = struct.pack('<ddc0', tonumber(head.ver), tonumber(head.live), head.gen) "
    "  end "
    "elseif value and field:sub(1, 2) == 'a:' then "
    "  local spent, reserved, unknown = value:match('(%d+) (%d+) (%d+)') "
    "  value = struct.pack('<ddd', tonumber(spent), tonumber(reserved), tonumber(unknown)) "
    "end "
    "if value then return redis.call('HSET', key, name, value) end "
    "if not raw then return false end "
    "if name == 'head' then return tostring(head[field]) end "
    "if field:sub(1, 2) == 'r:' then return raw end "
    "return string.format('%d %d %d', struct.unpack('<ddd', raw))";

static int bind_to(int port, int *bound_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        *bound_port = ntohs(address.sin_port);
    return fd;
}

static bool answers(const struct redis_fixture *redis)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)redis->port)};
    struct timeval second = {.tv_sec = 1};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char reply[8] = "";
    bool ok;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
    ok = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
         send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 && recv(fd, reply, 5, MSG_WAITALL) == 5 &&
         strncmp(reply, "+PONG", 5) == 0;
    close(fd);
    return ok;
}

static pid_t spawn(const struct redis_fixture *redis)
{
    char port[16];
    const char *const argv[] = {"redis-server", "--port",       port,     "--bind",
                                "127.0.0.1",    "--unixsocket", "socket", "--dir",
                                redis->folder,  "--save",       "",       "--appendonly",
                                "no",           "--daemonize",  "no",     NULL};
    pid_t parent = getpid();
    pid_t pid;
    int fd;

    snprintf(port, sizeof(port), "%d", redis->port);
    pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives the test program */
    if (getppid() != parent || chdir(redis->folder) != 0)
        _exit(126);
    fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0)
        _exit(126);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

bool redis_fixture_restart(struct redis_fixture *redis, struct err *err)
{
    int64_t deadline_us = clock_monotonic_us() + START_TIMEOUT_MS * US_PER_MS;
    int status;

    redis->pid = spawn(redis);
    while (redis->pid > 0 && !answers(redis)) {
        if (waitpid(redis->pid, &status, WNOHANG) == redis->pid) {
            redis->pid = 0;
            return err_set(err, "redis-server ended at once, see %s/log", redis->folder);
        }
        if (clock_monotonic_us() > deadline_us)
            return err_set(err, "redis-server does not answer, see %s/log", redis->folder);
        poll(NULL, 0, POLL_MS);
    }
    return redis->pid > 0 || err_set(err, "fork: %s", strerror(errno));
}

void redis_fixture_crash(struct redis_fixture *redis)
{
    if (redis->pid <= 0)
        return;
    kill(redis->pid, SIGKILL);
    while (waitpid(redis->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    redis->pid = 0;
}

void redis_fixture_freeze(struct redis_fixture *redis, bool is_frozen)
{
    if (redis->pid > 0)
        kill(redis->pid, is_frozen ? SIGSTOP : SIGCONT);
}

static void remove_folder(const struct redis_fixture *redis)
{
    static const char *const files[] = {"log", "socket", "dump.rdb"};
    char path[PATH_SIZE + 16];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", redis->folder, files[i]);
        unlink(path);
    }
    rmdir(redis->folder);
}

void redis_fixture_stop(struct redis_fixture *redis)
{
    if (!redis)
        return;
    for (struct redis_fixture **at = &started; *at; at = &(*at)->next) {
        if (*at == redis) {
            *at = redis->next;
            break;
        }
    }
    redis_fixture_crash(redis);
    remove_folder(redis);
    free(redis);
}

static void stop_all(void)
{
    while (started)
        redis_fixture_stop(started);
}

struct redis_fixture *redis_fixture_start(struct err *err)
{
    static bool is_registered;
    struct redis_fixture *redis = xcalloc(1, sizeof(*redis));

    if (!is_registered)
        is_registered = atexit(stop_all) == 0;
    redis->next = started;
    started = redis;
    close(bind_to(0, &redis->port));
    snprintf(redis->folder, sizeof(redis->folder), "/tmp/nightshift-redis-XXXXXX");
    if (mkdtemp(redis->folder)) {
        snprintf(redis->url, sizeof(redis->url), "redis://127.0.0.1:%d", redis->port);
        snprintf(redis->unix_url, sizeof(redis->unix_url), "unix://%s/socket", redis->folder);
        if (redis_fixture_restart(redis, err))
            return redis;
    } else {
        err_set(err, "folder %s: %s", redis->folder, strerror(errno));
    }
    redis_fixture_stop(redis);
    return NULL;
}

int redis_fixture_port(const struct redis_fixture *redis)
{
    return redis->port;
}

const char *redis_fixture_url(const struct redis_fixture *redis)
{
    return redis->url;
}

const char *redis_fixture_unix_url(const struct redis_fixture *redis)
{
    return redis->unix_url;
}
