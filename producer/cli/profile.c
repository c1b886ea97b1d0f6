/* SPDX-License-Identifier: Apache-2.0 */
/* Which server to talk to, and with which keys: environment, or a profile of the user's file. */
#include "producer/cli/profile.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/config.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum { PATH_SIZE = 4096 };

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

char *profile_path(void)
{
    const char *base = environment("XDG_CONFIG_HOME"), *home = environment("HOME");
    const struct passwd *account = home ? NULL : getpwuid(getuid());
    char path[PATH_SIZE];

    if (base)
        snprintf(path, sizeof(path), "%s/nightshift/config.yaml", base);
    else
        snprintf(path, sizeof(path), "%s/.config/nightshift/config.yaml",
                 home      ? home
                 : account ? account->pw_dir
                           : "");
    return xstrdup(path);
}

/* --- the file --------------------------------------------------------------------------------- */

/* A key in the file itself: is the file the owner's alone? */
static bool check_mode(const char *path, const char *member, struct err *err)
{
    struct stat status;

    if (stat(path, &status) != 0 || !(status.st_mode & 077))
        return true;
    return err_set(err,
                   "%s holds a key (%s) and can be read by others (mode %03o): run `chmod 600 %s`, "
                   "or write file:PATH instead of the key",
                   path, member, (unsigned)status.st_mode & 0777U, path);
}

static bool take_text(const struct config *config, const json_t *object, const char *path,
                      const char *member, const char **out, struct err *err)
{
    char where[256];
    const json_t *value = json_object_get(object, member);

    snprintf(where, sizeof(where), "%s.%s", path, member);
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value))
        return err_set(err, "%s: %s: expected a text", config_where(config, where), where);
    *out = json_string_value(value);
    return true;
}

static bool take_key(const struct config *config, const json_t *object, const char *path,
                     const char *file, const char *member, char **out, struct err *err)
{
    const char *text = NULL;

    if (!take_text(config, object, path, member, &text, err))
        return false;
    if (!text || *out)
        return true;
    if (strncmp(text, "file:", 5) != 0 && !check_mode(file, member, err))
        return false;
    *out = config_secret(text, config_folder(config, path), err);
    return *out || err_wrap(err, "%s", file);
}

static bool check_members(const struct config *config, const json_t *object, const char *path,
                          struct err *err)
{
    static const char *const known[] = {"url", "api_key", "admin_key"};
    struct err detail = {0};

    if (!json_is_object(object))
        return err_set(err, "%s: %s: expected url, api_key and admin_key",
                       config_where(config, path), path);
    return json_known_members(object, "", known, 3, &detail) ||
           err_set(err, "%s: %s: %s", config_where(config, path), path, detail.message);
}

/* The profile that was asked for, or the file's own choice. */
static bool take_profile(struct profile *profile, const struct config *config, const char *file,
                         const char *name, struct err *err)
{
    const json_t *root = config_root(config);
    const char *chosen = name ? name : json_string_or_null(root, "profile");
    const json_t *object;
    const char *url = NULL;
    char path[160];

    if (!chosen)
        return true;
    snprintf(path, sizeof(path), "profiles.%.128s", chosen);
    object = json_object_get(json_object_get(root, "profiles"), chosen);
    if (!object)
        return err_set(err, "%s: there is no profile %.128s", file, chosen);
    if (!check_members(config, object, path, err) ||
        !take_text(config, object, path, "url", &url, err) ||
        !take_key(config, object, path, file, "api_key", &profile->api_key, err) ||
        !take_key(config, object, path, file, "admin_key", &profile->admin_key, err))
        return false;
    if (!url)
        return err_set(err, "%s: %s: url is missing", config_where(config, path), path);
    profile->url = xstrdup(url);
    profile->name = xstrdup(chosen);
    return true;
}

static bool take_file(struct profile *profile, const char *name, struct err *err)
{
    static const char *const known[] = {"profile", "profiles.*"};
    char *path = profile_path();
    const char *paths[] = {path};
    struct config *config = NULL;
    bool ok = true;

    if (access(path, F_OK) != 0) {
        if (name)
            ok = err_set(err, "profile %s: there is no %s", name, path);
    } else {
        config = config_load(paths, 1, err);
        ok = config && config_check_unknown(config, known, 2, err) &&
             take_profile(profile, config, path, name, err);
    }
    config_free(config);
    free(path);
    return ok;
}

/* --- all of it -------------------------------------------------------------------------------- */

static bool take_environment(struct profile *profile, struct err *err)
{
    static const char *const names[] = {"NIGHTSHIFT_API_KEY", "NIGHTSHIFT_ADMIN_KEY"};
    char **const keys[] = {&profile->api_key, &profile->admin_key};

    for (int i = 0; i < 2; i++) {
        const char *text = environment(names[i]);

        if (!text)
            continue;
        *keys[i] = config_secret(text, ".", err);
        if (!*keys[i])
            return err_wrap(err, "%s", names[i]);
    }
    return true;
}

static void trim_slashes(char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        url[--len] = '\0';
}

/* A line end in a key would be a header of somebody else's choice. */
static bool check_keys(const struct profile *profile, struct err *err)
{
    const char *const keys[] = {profile->api_key, profile->admin_key};

    for (int i = 0; i < 2; i++)
        if (keys[i] && !str_is_visible_ascii(keys[i], strlen(keys[i])))
            return err_set(err, "the %s key has characters that no key has",
                           i == 0 ? "API" : "admin");
    return true;
}

bool profile_load(struct profile *profile, const char *name, const char *url, struct err *err)
{
    const char *from = url ? url : environment("NIGHTSHIFT_URL");
    bool ok = true;

    memset(profile, 0, sizeof(*profile));
    if (!name)
        ok = take_environment(profile, err);
    if (ok && (name || !from))
        ok = take_file(profile, name, err);
    if (ok && url) {
        free(profile->url);
        profile->url = NULL;
    }
    if (ok && !profile->url)
        profile->url = xstrdup(from ? from : PROFILE_DEFAULT_URL);
    if (ok)
        ok = check_keys(profile, err);
    if (!ok) {
        profile_release(profile);
        return false;
    }
    trim_slashes(profile->url);
    return true;
}

static void wipe(char *key)
{
    if (key)
        crypto_wipe(key, strlen(key));
    free(key);
}

void profile_release(struct profile *profile)
{
    free(profile->name);
    free(profile->url);
    wipe(profile->api_key);
    wipe(profile->admin_key);
    memset(profile, 0, sizeof(*profile));
}
