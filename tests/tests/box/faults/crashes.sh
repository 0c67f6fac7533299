# Makes threads of PID 1 and of the front crash, one after the other, and says what came of it.
#
#     sh crashes.sh SHELL RESULT PAUSE PROCESS:KIND:THREAD...
#
# In the box itself, as the recovery console, and what was started from it, ends whenever PID 1
# does; it begins when that shell, of pid SHELL, has ended. PAUSE seconds lie between two crashes of the front; those of PID 1 are forgiven, as after
# ten minutes of health. PROCESS is init, front, or too_fast for init again and again, unforgiven;
# or upgrade, then KIND is the binary's name and THREAD what is to come of it: done, or back.
# Lines of RESULT:
#
#     safe mode after N crashes
#     gap PROCESS MS      from the fault until PID 1 has taken over whole, or the front answers; of an
#                         upgrade all of it, from the file to the proven binary
#     failed ...          what did not come of a crash
#     drift ...           how PID 1 differs from before the first crash
#     connections N M     that were made to the door meanwhile, and that were refused
#     mappings N M        of PID 1, before and after
shell=$1 result=$2 pause=$3
shift 3

# Out of the group that ends with the shell.
echo $$ > /sys/fs/cgroup/cgroup.procs
: > /run/out
while [ -d /proc/"$shell" ]; do usleep 100000; done

# PID 1 as /proc shows it, without what differs from moment to moment.
likeness() {
    grep -E '^(Name|Umask|[UG]id|FDSize|Groups|NSpid|Vm(Lck|Pin)|Threads|S(ig|hd)Pnd|Sig(Blk|Ign|Cgt)|Cap[A-Z][a-z]*|NoNewPrivs|Seccomp):' \
        /proc/1/status
    awk '/^(Name|SigBlk|SigIgn|SigCgt|SigPnd|Cpus_allowed|Mems_allowed_list):/ { line = line " " $2 }
         /^Mems_allowed_list:/ { print "thread" line; line = "" }' /proc/1/task/*/status | sort
    # Priorities and policy: proc_pid_stat(5), 18, 19, 40 and 41.
    sed 's/^[0-9]* (\(.*\)) /\1 /' /proc/1/task/*/stat |
        awk '{ print "priority", $1, $17, $18, $39, $40 }' | sort
    # What is open at each of a few looks, and how often at least. The program itself is in the root,
    # or in memory after an upgrade.
    for look in 1 2 3 4 5 6 7 8; do
        ls -l /proc/1/fd 2>/dev/null | sed -n '/^l/{ s/.* -> //; /^anon_inode:/!s/\[.*//
            s,^/memfd:init .*,/usr/lib/pilotlight/init,; p }'
        echo look
    done | awk '$0 != "look" { now[$0]++; next }
        { looks++
          for (kind in now) {
              seen[kind]++
              if (!(kind in least) || now[kind] < least[kind]) least[kind] = now[kind]
          }
          split("", now) }
        END { for (kind in least) if (seen[kind] == looks) print "open", least[kind], kind }' | sort
}

settled() {
    last=
    for try in $(seq 60); do
        now=$(likeness)
        if [ "$now" = "$last" ]; then
            echo "$now"
            return
        fi
        last=$now
        sleep 1
    done
    echo "does not come to rest"
}

is_like_before() {
    for try in $(seq 60); do
        likeness > /run/now
        cmp -s /run/fresh /run/now && return
        sleep 1
    done
    echo "failed $1: PID 1 is not what it was"
    diff /run/fresh /run/now | grep '^[-+][^-+]' | sed 's/^/drift /'
}

milliseconds() {
    read -r up idle < /proc/uptime
    echo $((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))
}

# Waits for another generation than the one numbered so.
await_successor() {
    now=$1
    for try in $(seq 6000); do
        while read -r word value; do
            [ "$word" = generation ] && now=$value
        done < /run/pilot/succession
        [ "$now" -gt "$1" ] && return
        usleep 20000
    done
    return 1
}

await_thread() {
    for try in $(seq 600); do
        [ "$2" = main ] || grep -qx "$2" /proc/"$1"/task/*/comm && return
        usleep 100000
    done
    echo "failed: there is no thread $2"
}

door_answers() {
    printf 'GET /ca.crt HTTP/1.0\r\nHost: localhost\r\n\r\n' | nc 127.0.0.1 80 | grep -q '200 OK'
}

crash_init() {
    await_thread 1 "$2"
    generation=$(sed -n 's/^generation //p' /run/pilot/succession)
    began=$(milliseconds)
    echo "$1 $2" > /run/pilot/fault
    if await_successor "$generation"; then
        echo "gap init $(($(milliseconds) - began))"
    else
        echo "failed $1 in $2: there is no successor"
    fi
    echo 'forgive all' > /run/pilot/fault
    is_like_before "$1 in $2"
}

# The last way again and again, unforgiven, until PID 1 does less. On a busy machine some lie too
# far apart to count.
crash_too_fast() {
    for try in $(seq 40); do
        generation=$(sed -n 's/^generation //p' /run/pilot/succession)
        echo "$1 $2" > /run/pilot/fault
        await_successor "$generation" || echo "failed $1 in $2: there is no successor"
        if grep -qx 'safe true' /run/pilot/succession; then
            echo "safe mode after $try crashes"
            return
        fi
    done
    echo "failed: $try crashes change nothing"
}

crash_front() {
    for try in $(seq 1200); do
        old=$(pidof pilot-front) && break
        usleep 100000
    done
    await_thread "$old" "$2"
    door_answers || echo "failed $1 in $2: the front did not answer before"
    began=$(milliseconds)
    echo "$1 $2" > /run/pilot/fault-front
    for try in $(seq 1200); do
        new=$(pidof pilot-front) && [ "$new" != "$old" ] && break
        usleep 50000
    done
    [ "$new" != "$old" ] || echo "failed $1 in $2: there is no other front"
    for try in $(seq 600); do
        door_answers && break
        usleep 50000
    done
    echo "gap front $(($(milliseconds) - began))"
    sleep "$pause"
}

crash_upgrade() {
    began=$(milliseconds)
    came=done
    pilot init upgrade /usr/lib/pilotlight/"$1" > /run/upgrade 2>&1 || came=failed
    grep -q 'was taken back' /run/upgrade && came=back
    [ "$came" = "$2" ] || echo "failed upgrade to $1: $(tail -n 1 /run/upgrade)"
    echo "gap upgrade $(($(milliseconds) - began))"
    echo 'forgive all' > /run/pilot/fault
    is_like_before "upgrade to $1"
}

connect() {
    made=0 refused=0
    while [ ! -e /run/enough ]; do
        if nc 127.0.0.1 443 -e true; then made=$((made + 1)); else refused=$((refused + 1)); fi
        usleep 300000
    done
    echo "connections $made $refused"
}

{
    [ -e /run/fresh ] || settled > /run/fresh
    mappings=$(grep -c '' /proc/1/maps)
    rm -f /run/enough
    connect &
    for one in "$@"; do
        process=${one%%:*} kind=${one#*:}
        "crash_$process" "${kind%:*}" "${kind#*:}"
    done
    : > /run/enough
    wait
    echo "mappings $mappings $(grep -c '' /proc/1/maps)"
} > "$result" 2>&1
echo '<2>tests: the crashes are over' > /dev/kmsg
