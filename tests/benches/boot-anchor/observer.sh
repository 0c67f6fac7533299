# Waits on the second serial port for what the host wants to know.
. /figures
moment() { clock; work; echo "$clock $work"; }
memory() {
    while read -r line; do echo "$line"; done < /proc/meminfo
    for process in /proc/[0-9]*; do
        # Empty for the kernel's own threads.
        name=$(busybox tr '\0 ' '__' 2> /dev/null < $process/cmdline)
        [ -n "$name" ] || continue
        while read -r line; do echo "${process#/proc/} $name $line"; done 2> /dev/null < $process/smaps_rollup
    done
}
mark() { while read -r line; do echo "$line"; done < /marks/$1; }
exec 0<> /dev/ttyS1 1>&0
/usr/bin/busybox stty raw -echo
echo > /marks/ready
echo end
while read -r what; do
    $what
    echo end
done
