/**
 * What the doctor may find, by code, besides conditions (condition.ts): `check` is the kind of thing examined, `text` what was found, `remedy` a command to
 * type or what to do; a finding with nothing to do has none. `{name}` is a value of the finding.
 */
export const FINDING_TEXTS = {
  // the doctor itself
  CheckFailed: {
    check: 'doctor',
    text: 'the {subject} check could not be run: {error}',
    remedy: 'journalctl -u meshd -e on this node',
  },

  // capabilities, modules, programs
  KernelFeaturesPresent: {
    check: 'module',
    text: 'the kernel has all modules, set types and iptables extensions that meshd uses',
  },
  KernelRequirementMissing: { check: 'module', text: '{problem}', remedy: '{remedy}' },
  SchedulersPresent: { check: 'module', text: 'the kernel has all schedulers: {schedulers}' },
  SchedulerMissing: {
    check: 'module',
    text: 'the kernel has no scheduler {scheduler}: ports that declare it use their fallback on this node',
    remedy: 'modprobe ip_vs_{scheduler} && systemctl restart meshd',
  },

  // sysctls
  ForwardingEnabled: { check: 'sysctl', text: '{sysctl}=1 in {netns}' },
  ForwardingDisabled: {
    check: 'sysctl',
    text: '{sysctl} is {value} in {netns}: packets are not forwarded',
    remedy: '{command}',
  },
  RpFilterLoose: { check: 'sysctl', text: 'rp_filter of {link} in {netns} accepts replies ({value})' },
  RpFilterStrict: {
    check: 'sysctl',
    text: 'rp_filter of {link} in {netns} is strict (effective 1: the maximum of all and the link): packets whose return path is another link are dropped',
    remedy: '{command}',
  },
  UnderlayRpFilterStrict: {
    check: 'sysctl',
    text: 'rp_filter of {link} is strict: packets that arrive there from a node which this host reaches over another link are dropped',
    remedy: '{command}',
  },
  RouteLocalnetEnabled: { check: 'sysctl', text: 'route_localnet of {link} is on' },
  RouteLocalnetDisabled: {
    check: 'sysctl',
    text: 'route_localnet of {link} is off: published ports do not answer on 127.0.0.1',
    remedy: '{command}',
  },
  RouterAdvertisementsAccepted: { check: 'sysctl', text: '{link} accepts router advertisements while forwarding' },
  DefaultRouteExpires: {
    check: 'sysctl',
    text: 'the IPv6 default route over {link} came by router advertisement and expires while forwarding is on: accept_ra is 1',
    remedy: '{command}',
  },
  ConntrackUsage: { check: 'conntrack', text: 'the connection table holds {count} of {max} entries ({percent} %)' },
  ConntrackNearlyFull: {
    check: 'conntrack',
    text: 'the connection table holds {count} of {max} entries ({percent} %): when it is full, new connections time out',
    remedy: '{command}',
  },

  // routing rules of the host
  RoutingRulesFollowed: { check: 'routing', text: 'answers of published ports follow the routing rules of the host' },
  RoutingRuleNotFollowed: {
    check: 'routing',
    text: 'answers of published ports do not follow the rule "{rule}", which programs of the host do: it selects by more than addresses, ports and marks, its place leaves none before it, or there are too many such rules',
    remedy: 'meshctl trace shows where answers leave; see ip rule show',
  },

  // underlay and MTU
  UnderlayAddressPresent: { check: 'underlay', text: '{link} has {address}' },
  OffloadUnaffected: { check: 'offload', text: '{link} (driver {driver}) has no known checksum fault in tunnels' },
  OffloadDisabled: { check: 'offload', text: '{link} ({driver}): the kernel computes checksums in tunnels' },
  OffloadCorruptsChecksums: {
    check: 'offload',
    text: '{link} is a {driver}, which is known to send VXLAN packets with wrong checksums while {features} are on',
    remedy: '{command}',
  },
  OverlayMissing: {
    check: 'mtu',
    text: 'there is no VXLAN device yet',
    remedy: 'meshctl diff self; meshctl node inspect self',
  },
  MtuMatches: {
    check: 'mtu',
    text: 'the routes to the other nodes have an MTU of {mtu} bytes, the overlay needs {needed}',
  },
  MtuTooSmall: {
    check: 'mtu',
    text: 'the routes to the other nodes have an MTU of {mtu} bytes, the overlay needs {needed} ({inner} + {overhead}): long packets are fragmented or lost',
    remedy: 'if meshd does not follow the MTU within seconds, see meshctl diff self on this node',
  },
  MtuUnused: {
    check: 'mtu',
    text: 'the routes to the other nodes have an MTU of {mtu} bytes, the overlay uses {needed} of them',
    remedy: 'if meshd does not follow the MTU within seconds, see meshctl diff self on this node',
  },
  OverlayMtuSmallest: { check: 'mtu', text: "no node's overlay has a smaller MTU than this one's {mtu} bytes" },
  OverlayMtuDiffers: {
    check: 'mtu',
    text: 'the overlay has an MTU of {mtu} bytes here and only {smallest} on another node: long UDP packets to it are lost',
    remedy: 'ip link show on both, and give their interfaces one MTU; the overlay follows',
  },

  // packet filters
  FirewallRuleDropsVxlan: {
    check: 'firewall',
    text: 'a rule of this node drops VXLAN: {table} {chain} {rule}',
    remedy: '{command}',
  },
  FirewallDropsByDefault: {
    check: 'firewall',
    text: '{chain} of this node ({tool}) drops what no rule accepts; VXLAN is udp/4789',
    remedy: '{command}',
  },
  NftablesDropsVxlan: {
    check: 'firewall',
    text: 'chain {chain} of nftables table {family} {table} drops VXLAN',
    remedy: '{command}',
  },
  NftablesDropsByDefault: {
    check: 'firewall',
    text: 'chain {chain} of nftables table {family} {table} drops what no rule accepts; VXLAN is udp/4789',
    remedy: '{command}',
  },

  // the node itself
  DiskSpace: { check: 'disk', text: '{directory} has {free} MiB free of {size}' },
  DiskSpaceLow: {
    check: 'disk',
    text: '{directory} has {free} MiB free of {size}',
    remedy: 'df -h {directory}; du -xh {directory} | sort -h | tail',
  },
  KernelMatches: { check: 'kernel', text: 'the kernel state matches the assignment' },
  KernelDiffers: {
    check: 'kernel',
    text: 'the kernel state differs from the assignment by {count} operations, the first is {operation}',
    remedy: 'meshctl diff self, on this node',
  },
  KernelUnreadable: {
    check: 'kernel',
    text: 'the kernel state cannot be read: {error}',
    remedy: 'meshctl diff self, on this node',
  },
  NoConditions: { check: 'condition', text: 'meshd reports no condition on this node' },
  PortsFree: { check: 'port', text: 'no published port conflicts with a program of this node' },
  PortConflict: {
    check: 'port',
    text: 'port {port}: {problem}',
    remedy: 'ss -lnptu on this node; publish another port or stop the program',
  },

  // nodes seen together
  NodeDown: { check: 'node', text: '{node} is {state}', remedy: 'systemctl status meshd on {node} ({address})' },
  NodeAnswerFailed: {
    check: 'node',
    text: '{node} could not be asked: {error}',
    remedy: 'systemctl status meshd on {node} ({address})',
  },
  ClockAgrees: { check: 'clock', text: "the clock agrees with the manager's" },
  ClockBehind: {
    check: 'clock',
    text: "the clock is at least {seconds} s behind the manager's",
    remedy: 'timedatectl set-ntp true',
  },
  ClockAhead: {
    check: 'clock',
    text: "the clock is at least {seconds} s ahead of the manager's",
    remedy: 'timedatectl set-ntp true',
  },
  VersionCurrent: { check: 'version', text: 'meshd {version}' },
  VersionDiffers: {
    check: 'version',
    text: "meshd is {version}, the manager's node has {expected}",
    remedy: 'install the same version and systemctl restart meshd',
  },
  PathAnswers: { check: 'path', text: '{node} answers through VXLAN, small packets and full ones' },
  PathBroken: {
    check: 'path',
    text: 'no answer from {node} ({address}) through VXLAN: udp/4789 is dropped on the way there or back',
    remedy:
      'tcpdump -ni any udp port 4789 on both shows how far the packets get; then open udp/4789 between {from} and {address}',
  },
  AllPathsBroken: {
    check: 'path',
    text: 'no answer from any other node ({nodes}) through VXLAN: udp/4789 is dropped at this node or on its network',
    remedy:
      'tcpdump -ni any udp port 4789 on this node and another shows how far the packets get; then open udp/4789 between {from} and the other nodes',
  },
  AllPathsLoseFullSize: {
    check: 'path',
    text: 'packets of full size between this node and every other one ({nodes}) are lost: {inner} bytes in VXLAN are {outer} on the underlay, small ones arrive',
    remedy:
      'ping -M do -s {payload} from {from} to the other nodes; give every link on the way an MTU of {outer}, or ip link set dev … mtu … on this node',
  },
  PathLosesFullSize: {
    check: 'path',
    text: 'packets of full size to {node} are lost or their answers are: {inner} bytes in VXLAN are {outer} on the underlay, small ones arrive',
    remedy:
      'ping -M do -s {payload} {address} from {from}; give every link on the way an MTU of {outer}, or ip link set dev … mtu … on the nodes; the overlay follows',
  },
  PathLossy: {
    check: 'path',
    text: '{node} answers, but loses packets: three of the small probes had no answer',
    remedy: 'ping -f -c 1000 {address}',
  },
  PeersNotProbed: {
    check: 'path',
    text: 'the other nodes cannot be probed: {error}',
    remedy: 'meshctl diff self, on this node',
  },
} as const;
