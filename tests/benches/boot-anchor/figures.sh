# Builtins alone, so that asking costs next to nothing.
# CLOCK_MONOTONIC in ns.
clock() {
    while read -r now at clock _; do
        [ "$now $at" = "now at" ] && return
    done < /proc/timer_list
}
# What tasks have run so far, in ns (Documentation/scheduler/sched-stats.rst).
work() {
    while read -r cpu _ _ _ _ _ _ work _; do
        [ "$cpu" = cpu0 ] && return
    done < /proc/schedstat
}
