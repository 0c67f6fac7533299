# Has apt-get install packages without leaving anything of theirs running, now or after the next boot.
# The first argument is the place of the policy that says what may be started, the others are
# apt-get's. Run by root.
set -u
policy=$1
shift
export DEBIAN_FRONTEND=noninteractive

put_back() {
    if [ -e "$policy.before-pilotlight" ]; then
        mv "$policy.before-pilotlight" "$policy"
    else
        rm -f "$policy"
    fi
}

installed() {
    dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u
}

# Who comes second waits: what is there then is the machine's own.
exec 9<"$(dirname "$policy")"
flock 9
# One that was killed left its own.
if grep -qs '^# Put here by pilotlight' "$policy"; then
    put_back
fi
before=$(installed)
trap 'exit 1' HUP INT TERM
trap put_back EXIT
if [ -e "$policy" ]; then
    mv "$policy" "$policy.before-pilotlight"
fi
# 101 is "not allowed" (/usr/share/doc/init-system-helpers/README.policy-rc.d.gz).
printf '#!/bin/sh\n# Put here by pilotlight while it installs packages.\nexit 101\n' >"$policy"
chmod 755 "$policy"

apt-get "$@" 9<&-
result=$?

# Only what has come by this: what was there is as its owner wants it.
installed | while read -r package; do
    if printf '%s\n' "$before" | grep -qxF "$package"; then
        continue
    fi
    dpkg-query --listfiles "$package" |
        sed -n 's,^\(/usr\)\{0\,1\}/lib/systemd/system/\([^/]*\.\(path\|service\|socket\|timer\)\)$,\2,p' |
        while read -r unit; do
            # On a machine without systemd nothing starts it.
            if command -v systemctl >/dev/null; then
                systemctl --quiet --no-reload disable "$unit" </dev/null >&2
            fi
        done
done
exit "$result"
