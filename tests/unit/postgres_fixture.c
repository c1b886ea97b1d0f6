/* SPDX-License-Identifier: Apache-2.0 */
/* A private Postgres for a test program: own folder, own port, gone when the program ends. */
#include "tests/unit/postgres_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/pg.h"

enum { START_TIMEOUT_MS = 30000, POLL_MS = 20, PATH_SIZE = 256, ARGV_MAX = 32 };

struct postgres_fixture {
    struct postgres_fixture *next;
    char folder[PATH_SIZE]; /* has data/, log and the socket */
    char data[PATH_SIZE + 16];
    char binaries[PATH_SIZE];
    char url[PATH_SIZE];
    int port;
    pid_t pid; /* the postmaster; 0: not running */
};

static struct postgres_fixture *started;

static void wait_a_moment(void)
{
    struct timespec wait = {.tv_nsec = POLL_MS * 1000000L};

    nanosleep(&wait, NULL);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = 0;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

/* The newest version's programs are not on the PATH in Debian. */
static bool find_binaries(struct postgres_fixture *postgres, struct err *err)
{
    glob_t found;
    bool ok = glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) == 0;

    if (ok) {
        const char *path = found.gl_pathv[found.gl_pathc - 1];

        snprintf(postgres->binaries, sizeof(postgres->binaries), "%.*s",
                 (int)(strrchr(path, '/') - path), path);
    }
    globfree(&found);
    return ok || err_set(err, "no Postgres server under /usr/lib/postgresql");
}

/* In the child: what root may not do, user postgres does; nothing outlives the test program. */
static void become_server_user(void)
{
    const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;

    if (user && (setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
}

/* The program finds its siblings beside itself, hence its whole path as its name. */
static pid_t spawn(struct postgres_fixture *postgres, const char *program,
                   const char *const *options)
{
    const char *argv[ARGV_MAX];
    size_t count = 1;
    char path[PATH_SIZE + 32];
    char log[PATH_SIZE + 16];
    pid_t parent = getpid();
    pid_t pid;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", postgres->binaries, program);
    snprintf(log, sizeof(log), "%s/log", postgres->folder);
    argv[0] = path;
    while (*options && count < ARGV_MAX - 1)
        argv[count++] = *options++;
    argv[count] = NULL;
    pid = fork();
    if (pid != 0)
        return pid;
    become_server_user();
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || getppid() != parent || chdir(postgres->folder) != 0)
        _exit(126);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(path, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static bool make_folder(struct postgres_fixture *postgres, struct err *err)
{
    const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;

    snprintf(postgres->folder, sizeof(postgres->folder), "/tmp/nightshift-test-XXXXXX");
    if (!mkdtemp(postgres->folder))
        return err_set(err, "folder %s: %s", postgres->folder, strerror(errno));
    if (user && chown(postgres->folder, user->pw_uid, user->pw_gid) != 0)
        return err_set(err, "folder %s: %s", postgres->folder, strerror(errno));
    snprintf(postgres->data, sizeof(postgres->data), "%s/data", postgres->folder);
    return true;
}

static bool make_cluster(struct postgres_fixture *postgres, struct err *err)
{
    const char *const options[] = {
        "-D", postgres->data, "-U",         "nightshift", "--auth=trust",
        "-E", "UTF8",         "--locale=C", "--no-sync",  "--no-instructions",
        NULL};
    pid_t pid = spawn(postgres, "initdb", options);
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return err_set(err, "initdb failed, see %s/log", postgres->folder);
    return true;
}

static bool answers(const struct postgres_fixture *postgres, struct err *err)
{
    struct pg_session *session = pg_session_open(postgres->url, "fixture", err);

    pg_session_close(session);
    return session != NULL;
}

bool postgres_fixture_restart(struct postgres_fixture *postgres, struct err *err)
{
    char port[16];
    const char *const options[] = {"-D", postgres->data,
                                   "-p", port,
                                   "-k", postgres->folder,
                                   "-c", "listen_addresses=127.0.0.1",
                                   "-c", "fsync=off",
                                   "-c", "shared_buffers=16MB",
                                   "-c", "max_connections=50",
                                   "-c", "deadlock_timeout=50ms",
                                   "-c", "full_page_writes=off",
                                   NULL};
    int64_t deadline_us = clock_monotonic_us() + START_TIMEOUT_MS * US_PER_MS;
    int status;

    snprintf(port, sizeof(port), "%d", postgres->port);
    postgres->pid = spawn(postgres, "postgres", options);
    while (postgres->pid > 0 && !answers(postgres, err)) {
        if (waitpid(postgres->pid, &status, WNOHANG) == postgres->pid) {
            postgres->pid = 0;
            return err_set(err, "postgres ended at once, see %s/log", postgres->folder);
        }
        if (clock_monotonic_us() > deadline_us)
            return err_wrap(err, "postgres does not answer");
        wait_a_moment();
    }
    return postgres->pid > 0 || err_set(err, "fork: %s", strerror(errno));
}

/* Its backends notice and follow; they must be gone before the same data is used again. */
void postgres_fixture_crash(struct postgres_fixture *postgres)
{
    if (postgres->pid <= 0)
        return;
    kill(postgres->pid, SIGQUIT);
    while (waitpid(postgres->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    postgres->pid = 0;
}

/* All processes whose parent is the postmaster, and itself. */
void postgres_fixture_freeze(struct postgres_fixture *postgres, bool is_frozen)
{
    char path[64];
    int number = is_frozen ? SIGSTOP : SIGCONT;
    int child;
    FILE *children;

    if (postgres->pid <= 0)
        return;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)postgres->pid,
             (int)postgres->pid);
    kill(postgres->pid, number);
    children = fopen(path, "re");
    while (children && fscanf(children, "%d", &child) == 1)
        kill(child, number);
    if (children)
        fclose(children);
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
    (void)info, (void)flag, (void)ftw;
    return remove(path);
}

void postgres_fixture_stop(struct postgres_fixture *postgres)
{
    if (!postgres)
        return;
    for (struct postgres_fixture **at = &started; *at; at = &(*at)->next) {
        if (*at == postgres) {
            *at = postgres->next;
            break;
        }
    }
    postgres_fixture_freeze(postgres, false);
    postgres_fixture_crash(postgres);
    if (postgres->data[0])
        nftw(postgres->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(postgres);
}

static void stop_all(void)
{
    while (started)
        postgres_fixture_stop(started);
}

struct postgres_fixture *postgres_fixture_start(struct err *err)
{
    static bool is_registered;
    struct postgres_fixture *postgres = xcalloc(1, sizeof(*postgres));

    if (!is_registered)
        is_registered = atexit(stop_all) == 0;
    postgres->next = started;
    started = postgres;
    postgres->port = free_port();
    snprintf(postgres->url, sizeof(postgres->url), "postgresql://nightshift@127.0.0.1:%d/postgres",
             postgres->port);
    if (find_binaries(postgres, err) && make_folder(postgres, err) && make_cluster(postgres, err) &&
        postgres_fixture_restart(postgres, err))
        return postgres;
    postgres_fixture_stop(postgres);
    return NULL;
}

const char *postgres_fixture_url(const struct postgres_fixture *postgres)
{
    return postgres->url;
}

void session_run(struct pg_session *session, const char *sql)
{
    struct err err;

    if (!pg_session_run(session, sql, NULL, 0, NULL, &err))
        fail_msg("%s: %s", sql, err.message);
}

int64_t session_number(struct pg_session *session, const char *sql)
{
    struct pg_result *result;
    struct err err;
    int64_t number;

    if (!pg_session_run(session, sql, NULL, 0, &result, &err))
        fail_msg("%s: %s", sql, err.message);
    number = pg_get_int(result, 0, 0);
    pg_result_free(result);
    return number;
}
