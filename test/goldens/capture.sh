#!/bin/bash
# Regenerates the netlink goldens: runs the real tools under strace in separate namespaces and writes the messages sent (>)
# and received (<) in hex, below the command. Needs root, strace, iproute2, ipset, ipvsadm, and a kernel with ip_vs, so:
#   make vm CMD='test/goldens/capture.sh .cache/out/goldens' && cp .cache/out/goldens/*.txt test/goldens/
# Lookups internal to the tool (device names, the generic netlink family after its first use) are omitted.
# Replies contain variable values (statistics, sequence numbers, random MAC addresses): they differ between runs.
set -euo pipefail
out=${1:?usage: capture.sh DIRECTORY}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
work=$(mktemp -d)
cleanup() { for n in golden0 golden1; do ip netns del $n 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT
cleanup; mkdir -p "$work"

# cap COMMAND…: runs it in netns golden0 under strace; a failing command is a golden as well.
count=0
cap() {
  count=$((count + 1))
  local log; log=$(printf '%s/%04d' "$work" $count)
  echo "$*" > "$log.cmd"
  ip netns exec golden0 strace -qq -o "$log.trace" -s 0 -e trace=sendmsg,sendto,recvmsg,recvfrom -e write=all -e read=all "$@" < "${input:-/dev/null}" > /dev/null 2> "$log.err" || true
}
# quiet COMMAND…: the same, without recording.
quiet() { ip netns exec golden0 "$@"; }
save() { # NAME
  { echo "# Made by capture.sh with $(uname -r), $(ip -V 2>&1 | sed 's/.*, //'), ipset $(ipset version 2>/dev/null | sed -n '1s/.*ipset v\([^,]*\).*/\1/p'), ipvsadm $(dpkg-query -W -f '${Version}' ipvsadm 2>/dev/null)"
    node "$here/trace-to-hex.mjs" "$work"; } > "$out/$1.txt"
  rm -f "$work"/*; count=0
}
fresh() { for n in golden0 golden1; do ip netns del $n 2>/dev/null || true; ip netns add $n; done; ip -n golden0 link set lo up; }

fresh
cap ip link add name veth0 mtu 1450 address 02:00:00:00:00:01 type veth peer name peer0 mtu 1400 address 02:00:00:00:00:02 netns golden1
cap ip link add name up0 up type veth peer name up1 up
cap ip link add name vx0 address 02:6d:65:73:00:01 type vxlan gbp id 4096 local 172.30.0.1 nolearning dstport 4789
cap ip link add name vx6 type vxlan gbp id 4097 group ff05::100 local fd30::1 dev veth0 ttl 16 tos 4 learning ageing 77 maxaddress 99 srcport 2000 3000 dstport 4790 noproxy norsc nol2miss nol3miss noudpcsum udp6zerocsumtx udp6zerocsumrx
cap ip link add name dummy0 type dummy
cap ip link add name br0 type bridge
cap ip link property add dev vx0 altname a-name-longer-than-fifteen
cap ip link set dev vx0 mtu 1450 up
cap ip link set dev dummy0 master br0
cap ip link set dev dummy0 nomaster
cap ip link set dev dummy0 netns golden1
cap ip link set dev br0 down
cap ip link set dev br0 name br1
cap ip link set dev nonesuch up
cap ip link show dev vx0
cap ip link show dev a-name-longer-than-fifteen
cap ip -d link show
cap ip -d link show type vxlan
cap ip link del dev up0
cap ip link del dev lo
cap ip netns set golden1 7
cap ip netns list-id
quiet ip link set veth0 up
cap ip address add 10.255.1.0/32 dev vx0
cap ip address add fd77:0:0:1::/128 dev vx0 nodad
cap ip address add 10.9.0.1 peer 10.9.0.2/32 dev vx0
cap ip address show
cap ip address show dev vx0
cap ip address del 10.9.0.1 peer 10.9.0.2/32 dev vx0
cap ip route add 10.255.2.0/24 via 10.255.2.0 dev vx0 onlink proto 109
cap ip route add default via 10.255.2.0 dev vx0 onlink proto 109 table 100002
cap ip route add 10.255.1.2/32 dev veth0 proto 109 src 10.255.1.0
cap ip route add local 10.77.255.0/24 dev lo proto 109
cap ip route replace 10.255.1.5/32 dev veth0 proto 109 metric 5
cap ip -6 route add fd77:0:0:2::/64 via fd77:0:0:2:: dev vx0 onlink proto 109
cap ip -6 route add default via fd77:0:0:2:: dev vx0 onlink proto 109 table 100002
cap ip -6 route add local fd77:0:0:ff::/64 dev lo proto 109
cap ip route add 10.8.0.0/16 proto 109 nexthop via 10.255.2.0 dev vx0 onlink nexthop dev veth0
cap ip route add 10.10.0.0/16 via inet6 fe80::1 dev veth0 proto 109
cap ip route add 10.99.0.0/16 via 192.0.2.1 proto 109
cap ip route add 10.255.2.0/24 via 10.255.2.0 dev vx0 onlink proto 109
cap ip route show table 100002
cap ip route show table all proto 109
cap ip route show table 100003
cap ip -6 route show table all proto 109
cap ip route del 10.255.1.2/32 dev veth0 proto 109
cap ip route del default table 100002 proto 109
cap ip rule add fwmark 5 lookup 100005 priority 10005 protocol 109
cap ip rule add fwmark 0x100/0xff00 goto 20000 priority 10001
cap ip rule add nop priority 20000
cap ip rule add from 10.0.0.0/8 lookup main priority 3
cap ip -6 rule add fwmark 5 lookup 100005 priority 10005 protocol 109
cap ip rule show
cap ip -6 rule show
answers='from 10.252.1.2 to 192.0.2.0/24 fwmark 0x1000000/0x3f000000 ipproto tcp sport 8080 dport 1000-2000 lookup 100 suppress_prefixlength 0 priority 7 protocol 109'
# shellcheck disable=SC2086
cap ip rule add $answers
cap ip -6 rule add from fd77::2 fwmark 0x2000000/0x3f000000 unreachable priority 8 protocol 109
quiet ip rule add not from 192.0.2.7 iif lo blackhole priority 9
quiet ip rule add from 192.0.2.8 uidrange 0-0 lookup 100 priority 10
cap ip rule list
cap ip -6 rule list
# shellcheck disable=SC2086
cap ip rule del $answers
cap ip rule del fwmark 5 lookup 100005 priority 10005 protocol 109
cap ip neighbour add 10.255.2.0 lladdr 02:6d:65:73:00:02 dev vx0 nud permanent
cap ip neighbour replace 10.255.2.0 lladdr 02:6d:65:73:00:03 dev vx0 nud permanent
cap ip neighbour add fd77:0:0:2:: lladdr 02:6d:65:73:00:02 dev vx0 nud permanent
cap ip neighbour show
cap ip neighbour show dev vx0
cap ip neighbour del fd77:0:0:2:: dev vx0
cap bridge fdb add 02:6d:65:73:00:02 dev vx0 dst 172.30.0.2
cap bridge fdb replace 02:6d:65:73:00:02 dev vx0 dst 172.30.0.22
cap bridge fdb append 00:00:00:00:00:00 dev vx6 dst fd30::2
cap bridge fdb show
cap bridge fdb show dev vx0
cap bridge fdb del 02:6d:65:73:00:02 dev vx0 dst 172.30.0.22

fresh
quiet ip link add name veth0 type veth peer name peer0
quiet ip link set veth0 up
quiet ip link set peer0 up
quiet ip addr add 192.0.2.1/24 dev veth0
quiet ip -6 addr add fd30::1/64 dev veth0 nodad
quiet ip addr add 10.252.1.1/32 dev peer0
quiet ip route add 10.252.1.2 dev peer0
quiet sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
cap ip route get 192.0.2.77 from 10.252.1.2 iif peer0 mark 0x1000000 ipproto tcp sport 8080 dport 40000
cap ip route get 192.0.2.77 from 192.0.2.1
cap ip -6 route get fd30::77 from fd30::1
cap ip route get 203.0.113.1
quiet ip rule add from 10.252.1.2 unreachable
cap ip route get 192.0.2.77 from 10.252.1.2 iif peer0
save rtnetlink

fresh
cap ipset create pub-tcp bitmap:port range 0-65535
cap ipset create svc-tcp bitmap:port range 0-65535 skbinfo
cap ipset create svc-tcp bitmap:port range 0-65535 skbinfo
cap ipset -exist create svc-tcp bitmap:port range 0-65535 skbinfo
cap ipset create vip hash:ip skbinfo
cap ipset create vip6 hash:ip family inet6 hashsize 64 maxelem 1000 skbinfo
cap ipset create nets hash:net
cap ipset create dests hash:ip,port
cap ipset create hair hash:net,net
cap ipset add pub-tcp 8080
cap ipset add pub-tcp 8080
cap ipset -exist add pub-tcp 8080
cap ipset add svc-tcp 8080 skbmark 0x11f90
cap ipset add svc-tcp 8081 skbmark 0x11f91/0xffff
cap ipset add vip 10.77.255.7 skbmark 0x50007
cap ipset add vip6 fd77::7 skbmark 0x50008
cap ipset add nets 10.0.0.0/8
cap ipset add nets 10.1.0.0/16 nomatch
cap ipset add dests 10.1.2.3,udp:53
cap ipset add hair 10.77.1.5,10.77.1.5
cap ipset add hair 10.77.0.0/16,10.78.0.0/16
cap ipset test pub-tcp 8080
cap ipset test pub-tcp 8081
cap ipset del pub-tcp 8080
cap ipset del pub-tcp 8080
quiet ipset create small bitmap:port range 1-10
cap ipset add small 11
quiet ipset create big bitmap:port range 0-65535 skbinfo
for i in $(seq 1 1500); do echo "add big $i skbmark 0x$(printf %x $((65536 + i)))"; done > "$work/restore"
quiet ipset restore < "$work/restore"
printf 'add nets 10.2.0.0/16\nadd nets 10.3.0.0/16\nadd nets 10.2.0.0/16\nadd nets 10.4.0.0/16\n' > "$work/restore"
input="$work/restore" cap ipset restore
cap ipset list svc-tcp
cap ipset list
cap ipset list -name
cap ipset list -terse big
cap ipset list nonesuch
cap ipset flush pub-tcp
quiet iptables-legacy -t mangle -A PREROUTING -p tcp -j SET --map-set svc-tcp dst --map-mark || true
cap ipset destroy svc-tcp
cap ipset destroy hair
cap ipset create peers hash:ip maxelem 1048576
cap ipset create at hash:net,port
cap ipset create from hash:net,port,net
cap ipset create from6 hash:net,port,net family inet6
cap ipset add peers 172.30.0.2
cap ipset add at 172.30.0.0/24,tcp:8080
cap ipset add from 10.0.0.0/8,tcp:8080,128.0.0.0/1
cap ipset add from 10.1.2.3,udp:53,172.30.0.1
cap ipset -exist add from 10.1.2.3,udp:53,172.30.0.1
cap ipset add from 10.2.0.0/16,udp:53,172.30.0.1 nomatch
cap ipset add from6 fd00::/8,sctp:9,::/1
cap ipset add from 0.0.0.0/0,tcp:1,10.0.0.0/8
cap ipset list from
cap ipset list from6
cap ipset list at
cap ipset del from 10.0.0.0/8,tcp:8080,128.0.0.0/1
save ipset

fresh
cap ipvsadm -A -f 73616 -s rr
cap ipvsadm -A -f 73616 -s rr
cap ipvsadm -A -f 73616 -6 -s wlc
cap ipvsadm -A -t 10.0.0.1:80 -s wrr -p 300 -M 255.255.255.0
cap ipvsadm -A -u 10.0.0.1:53 -s rr -o
cap ipvsadm -A -t '[fd77::1]:443' -s mh
cap ipvsadm -A -f 9 -s nonesuch
cap ipvsadm -E -f 73616 -s wrr
cap ipvsadm -a -f 73616 -r 10.255.2.5:80 -m -w 1
cap ipvsadm -a -f 73616 -r 10.255.3.6:80 -m -w 3 -x 100 -y 50
cap ipvsadm -a -f 73616 -r 10.255.3.6:80 -m -w 3
cap ipvsadm -a -f 73616 -6 -r '[fd77:0:0:2::5]:80' -m -w 1
cap ipvsadm -a -t 10.0.0.1:80 -r 10.255.2.7 -g -w 2
cap ipvsadm -a -t 10.0.0.1:80 -r 10.255.2.8 -i -w 2
cap ipvsadm -e -f 73616 -r 10.255.2.5:80 -m -w 0
cap ipvsadm -e -f 73616 -r 10.255.2.9:80 -m -w 0
cap ipvsadm -L -n
cap ipvsadm -L -n -f 73616
cap ipvsadm -L -n --stats --exact
cap ipvsadm -d -f 73616 -r 10.255.3.6:80
cap ipvsadm -d -f 77 -r 10.255.3.6:80
cap ipvsadm --set 900 120 300
cap ipvsadm -L --timeout
cap ipvsadm -Z
cap ipvsadm -Z -f 73616
cap ipvsadm -D -f 73616 -6
cap ipvsadm -D -f 77
cap ipvsadm -A -f 73620 -s mh -b mh-fallback,mh-port -p 300 -M 255.255.255.0
cap ipvsadm -A -f 73620 -6 -s sh -b sh-fallback -p 60 -M 64
cap ipvsadm -E -f 73620 -s sh -b sh-fallback,sh-port
cap ipvsadm -C
save ipvs

fresh
ip netns exec golden0 node -e "
const net=require('net'),dgram=require('dgram');
net.createServer().listen(80,'0.0.0.0',()=>net.connect({port:80,host:'127.0.0.1',localPort:8080}));net.createServer().listen(8080,'::1');
dgram.createSocket('udp4').bind(53,'127.0.0.1');dgram.createSocket({type:'udp6',ipv6Only:true}).bind(5353,'::');
console.log('ready');setTimeout(()=>{},1e6)" > "$work/ready" &
listener=$!
until grep -q ready "$work/ready"; do sleep 0.1; done; sleep 1
cap ss -tn4 state listening
cap ss -tn6 state listening
cap ss -lun4
cap ss -lun6
cap ss -tn4 state all exclude listening sport '>=' :8080 and sport '<=' :8090
cap ss -aun4 sport '>=' :53 and sport '<=' :53
kill $listener
rm -f "$work/ready"
save sock-diag

fresh
quiet iptables -t nat -A PREROUTING -j ACCEPT
quiet ip6tables -t nat -A PREROUTING -j ACCEPT
cap conntrack -I -p udp -s 192.0.2.50 -d 192.0.2.1 --sport 1000 --dport 53 --timeout 600
cap conntrack -I -p udp -s 192.0.2.51 -d 192.0.2.1 --sport 1001 --dport 53 --reply-src 10.252.1.2 --reply-dst 192.0.2.51 --reply-port-src 53 --reply-port-dst 1001 --timeout 600
cap conntrack -I -p udp -s 192.0.2.52 -d 192.0.2.1 --sport 1002 --dport 53 --zone 7 --timeout 600
cap conntrack -I -p udp -s fd30::50 -d fd30::1 --sport 1000 --dport 53 --timeout 600
cap conntrack -L -f ipv4 -p udp
cap conntrack -L -f ipv6 -p udp
cap conntrack -L -f ipv4 -p udp -u SEEN_REPLY
cap conntrack -D -f ipv4 -p udp -s 192.0.2.50 --orig-port-dst 53
save conntrack

# A program of two instructions (r0 = 0; exit), pinned for `object-pinned`; needs llvm-mc and bpftool.
pin=/sys/fs/bpf/mesh-golden
fresh
if printf '%s\n' '.section classifier,"ax",@progbits' '.globl golden' '.type golden,@function' golden: 'r0 = 0' exit '.size golden, .-golden' |
  llvm-mc -triple bpfel -filetype=obj -o "$work/golden.o" && (mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf) &&
  rm -f $pin && bpftool prog load "$work/golden.o" $pin type classifier; then
  rm -f "$work/golden.o"
  quiet ip link add name tc0 type veth peer name tc1
  # `ip netns exec` mounts a new /sys, without the objects pinned in this one.
  cap() {
    count=$((count + 1))
    local log; log=$(printf '%s/%04d' "$work" $count)
    echo "$*" > "$log.cmd"
    nsenter --net=/run/netns/golden0 strace -qq -o "$log.trace" -s 0 -e trace=sendmsg,sendto,recvmsg,recvfrom -e write=all -e read=all "$@" > /dev/null 2> "$log.err" || true
  }
  cap tc qdisc add dev tc0 clsact
  cap tc qdisc add dev tc0 clsact
  cap tc filter add dev tc0 ingress protocol all pref 4096 handle 1 bpf direct-action object-pinned $pin
  cap tc filter add dev tc0 ingress protocol all pref 4096 handle 1 bpf direct-action object-pinned $pin
  cap tc filter replace dev tc0 ingress protocol all pref 4096 handle 1 bpf direct-action object-pinned $pin
  cap tc filter add dev tc0 ingress protocol ip pref 7 matchall action pass
  cap tc qdisc show
  cap tc filter show dev tc0 ingress
  cap tc filter show dev tc0 ingress pref 4096
  cap tc filter show dev tc0 egress
  cap tc filter del dev tc0 ingress protocol all pref 4096 handle 1 bpf
  cap tc filter del dev tc0 ingress protocol all pref 4096 handle 1 bpf
  cap tc qdisc del dev tc0 clsact
  cap tc qdisc del dev tc0 clsact
  rm -f $pin
  save traffic-control
else
  echo 'traffic-control was not captured: llvm-mc, llvm-objcopy or bpftool is missing or does not work' >&2
fi
