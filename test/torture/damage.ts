// Ways to damage one kernel object of meshd with standard tools. Every line is a shell command on the node.
import { familyOf } from '../../src/model/address.ts';
import { formatHostPort } from '../../src/model/host-port.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { LB_NETNS } from '../../src/model/linux-names.ts';
import { renderOp } from '../../src/model/render.ts';
import type { Random } from './random.ts';

type ObjectOfKind<K extends KernelObject['kind']> = Extract<KernelObject, { kind: K }>;

const exec = (netns: string) => (netns === 'host' ? '' : `ip netns exec ${netns} `);
const ip = (netns: string, option = '') => `ip${netns === 'host' ? '' : ` -n ${netns}`}${option}`;
const bridge = (netns: string) => `bridge${netns === 'host' ? '' : ` -n ${netns}`}`;
const iptables = ({ netns, family }: ObjectOfKind<'chain' | 'jump'>) =>
  `${exec(netns)}${family === 'inet' ? 'iptables' : 'ip6tables'} -w`;
const deleted = (object: KernelObject) => renderOp({ verb: 'delete', object }).join('; ');
const FOREIGN_MAC = '02:aa:bb:cc:dd:ee';

/** Commands that damage the object; one of them is chosen. */
export function damageCommands(object: KernelObject, random: Random): string[] {
  switch (object.kind) {
    case 'netns':
      return netnsDamages(object);
    case 'veth':
      return vethDamages(object);
    case 'vxlan':
      return vxlanDamages(object);
    case 'sysctl': {
      const other = object.value === '0' ? '1' : object.value === '1' ? '0' : String(Number(object.value) + 7);
      return [`${exec(object.netns)}sysctl -qw ${object.name}=${other}`];
    }
    case 'address':
      return addressDamages(object);
    case 'neighbour': {
      const { netns, dev, address } = object;
      const alien = familyOf(address) === 'inet' ? '10.99.0.77' : 'fd99::77';
      return [
        deleted(object),
        `${ip(netns)} neigh replace ${address} lladdr ${FOREIGN_MAC} dev ${dev} nud permanent`,
        `${ip(netns)} neigh replace ${address} lladdr ${object.mac} dev ${dev} nud stale`,
        `${ip(netns)} neigh add ${alien} lladdr ${FOREIGN_MAC} dev ${dev} nud permanent`,
        `${ip(netns)} neigh flush nud permanent dev ${dev}`,
      ];
    }
    case 'fdb': {
      const { netns, dev, mac, dst } = object;
      const alien = familyOf(dst) === 'inet' ? '192.0.2.99' : '2001:db8::99';
      return [
        `${bridge(netns)} fdb del ${mac} dev ${dev}`,
        `${bridge(netns)} fdb replace ${mac} dev ${dev} dst ${alien}`,
        `${bridge(netns)} fdb add ${FOREIGN_MAC} dev ${dev} dst ${alien}`,
        `${bridge(netns)} fdb del ${mac} dev ${dev}; ${bridge(netns)} fdb add ${mac} dev ${dev} dst ${dst} port 4999`,
      ];
    }
    case 'route':
      return routeDamages(object);
    case 'rule': {
      const { netns, family, priority, fwmark } = object;
      const rule = `${ip(netns, family === 'inet6' ? ' -6' : '')} rule`;
      return [
        deleted(object),
        `${rule} add priority ${priority} fwmark ${fwmark + 7} lookup 77`,
        `${rule} add priority ${priority} iif lo lookup 77`,
        `${deleted(object)}; ${rule} add priority ${priority} fwmark ${fwmark} lookup 77`,
      ];
    }
    case 'host-rule':
      return [deleted(object)];
    case 'ipset':
      return setDamages(object, random);
    case 'set-member': {
      const { netns, set, port, mark } = object;
      const free = 20_000 + random.below(9_999);
      return [
        deleted(object),
        mark === undefined
          ? `${exec(netns)}ipset add ${set} ${free}`
          : `${exec(netns)}ipset -exist add ${set} ${port} skbmark 0x99`,
        mark === undefined
          ? `${exec(netns)}ipset flush ${set}`
          : `${exec(netns)}ipset add ${set} ${free} skbmark 0x77/0xff`,
      ];
    }
    case 'set-entry':
      return [deleted(object), `${exec(object.netns)}ipset flush ${object.set}`];
    case 'chain':
      return chainDamages(object);
    case 'jump': {
      const table = `${iptables(object)} -t ${object.table}`;
      const jump = `${object.match === '' ? '' : `${object.match} `}-j ${object.chain}`;
      const away = `${table} -D ${object.from} ${jump}`;
      return [
        away,
        `${table} -A ${object.from} ${jump}`,
        `${table} -I ${object.from} ${jump}`,
        `${away}; ${table} -A ${object.from} -p 253 ${jump}`,
        `${table} -S ${object.from} | grep -q FOREIGN && { ${away}; ${table} -${object.position === 'first' ? 'A' : 'I'} ${object.from} ${jump}; } || ${away}`,
      ];
    }
    case 'ipvs-timeouts':
      return [`${exec(object.netns)}ipvsadm --set 900 100 30`];
    case 'virtual-service':
      return serviceDamages(object, random);
    case 'real-server':
      return serverDamages(object);
    case 'fast-path': {
      const tc = `tc${object.netns === 'host' ? '' : ` -n ${object.netns}`}`;
      return [
        deleted(object),
        `${tc} qdisc del dev ${object.link} clsact`,
        `${tc} filter del dev ${object.link} ingress`,
      ];
    }
    case 'fast-path-task':
    case 'fast-path-port':
    case 'fast-path-peer':
      // A name of a map is not one of a node where several nodes share a kernel.
      return [];
  }
}

function netnsDamages({ netns }: ObjectOfKind<'netns'>): string[] {
  const file = `/run/netns/${netns}`;
  return [
    `${ip(netns)} link set lo down`,
    `ip netns del ${netns}`,
    `umount -l ${file}`,
    `umount -l ${file}; rm ${file}`,
    `ip netns del ${netns}; ip netns add ${netns}`,
    'ip netns add mesh-task-nobodys',
  ];
}

function vethDamages({ netns, name, mtu, peer }: ObjectOfKind<'veth'>): string[] {
  const far = ip(peer.netns);
  return [
    `${ip(netns)} link del ${name}`,
    `${ip(netns)} link set ${name} down`,
    `${ip(netns)} link set ${name} mtu ${mtu - 100}`,
    `${far} link set ${peer.name} down`,
    `${far} link set ${peer.name} mtu ${mtu - 200}`,
    `${far} link del ${peer.name}`,
    `${far} link set ${peer.name} down; ${far} link set ${peer.name} name other9`,
    `${ip(netns)} link set ${name} down; ${ip(netns)} link set ${name} name other8`,
    `ip netns add stray; ${far} link set ${peer.name} netns stray`,
    `${far} link set ${peer.name} address ${FOREIGN_MAC}`,
    `${ip(netns)} link set ${name} down; ${ip(netns)} link set ${name} up`,
  ];
}

function vxlanDamages({ netns, name, mtu, local }: ObjectOfKind<'vxlan'>): string[] {
  const link = `${ip(netns)} link`;
  return [
    `${link} del ${name}`,
    `${link} set ${name} down`,
    `${link} set ${name} mtu ${mtu - 100}`,
    `${link} set ${name} address ${FOREIGN_MAC}`,
    `${link} set ${name} type vxlan learning`,
    `${link} del ${name}; ${link} add ${name} type vxlan id 77 dstport 4790 local ${local}`,
    `${link} del ${name}; ${link} add ${name} type dummy`,
    `${link} set ${name} down; ${link} set ${name} name other7`,
    `${link} add vxlan5 type vxlan id 5 dstport 4795 local ${local}`,
  ];
}

function addressDamages(object: ObjectOfKind<'address'>): string[] {
  const { netns, dev, address, prefix } = object;
  const alien = familyOf(address) === 'inet' ? '10.99.0.77/32' : 'fd99::77/128';
  return [
    deleted(object),
    `${ip(netns)} addr add ${alien} dev ${dev}`,
    `${ip(netns)} addr flush dev ${dev}`,
    `${deleted(object)}; ${ip(netns)} addr add ${address}/${prefix - 8} dev ${dev}`,
  ];
}

function routeDamages(object: ObjectOfKind<'route'>): string[] {
  const { netns, destination, table, dev, type } = object;
  const route = `${ip(netns, familyOf(destination) === 'inet6' ? ' -6' : '')} route`;
  const alien = familyOf(destination) === 'inet' ? '10.98.7.0/24' : 'fd98::/64';
  const kind = type === 'local' ? 'local ' : '';
  return [
    deleted(object),
    `${route} flush proto 109`,
    `${deleted(object)}; ${route} add blackhole ${destination} table ${table} proto 109`,
    `${route} add ${alien} dev ${dev} table ${table} proto 109`,
    `${route} add ${kind}${destination} dev ${dev} table ${table} metric 77 proto 109`,
    `${route} append ${kind}${destination} dev ${dev} table ${table} proto 109`,
  ];
}

function setDamages(object: ObjectOfKind<'ipset'>, random: Random): string[] {
  const { netns, name } = object;
  const ipset = `${exec(netns)}ipset`;
  const port = 1_000 + random.below(9_000);
  return [
    `${ipset} flush ${name}`,
    `${ipset} create mesh-nobodys hash:ip; ${ipset} add mesh-nobodys 10.99.0.${random.below(250)}`,
    `${ipset} create mesh-nobodys2 bitmap:port range 0-10000; ${ipset} add mesh-nobodys2 ${port}`,
    // Recreated as another type: only possible once nothing refers to it.
    `for t in raw mangle nat filter; do ${exec(netns)}iptables -w -t $t -F; ${exec(netns)}ip6tables -w -t $t -F; done; ${ipset} destroy ${name} && ${ipset} create ${name} hash:mac`,
    `for t in raw mangle nat filter; do ${exec(netns)}iptables -w -t $t -F; ${exec(netns)}ip6tables -w -t $t -F; done; ${ipset} rename ${name} mesh-renamed`,
  ].filter((_, index) => netns !== 'host' || index < 3); // elsewhere in the host others have rules too
}

function chainDamages(object: ObjectOfKind<'chain'>): string[] {
  const table = `${iptables(object)} -t ${object.table}`;
  const { chain, rules } = object;
  if (object.administrator === true) {
    return rules.length === 0
      ? [
          `${table} -S | grep -- '-j ${chain}' | sed 's/^-A/-D/' | while read -r r; do ${table} $r; done; ${table} -X ${chain}`,
        ]
      : [];
  }
  return [
    `${table} -F ${chain}`,
    `${table} -D ${chain} 1`,
    `${table} -A ${chain} -p 253 -j ACCEPT`,
    `${table} -I ${chain} -p 253 -j DROP`,
    `${table} -N MESH-NOBODYS; ${table} -A MESH-NOBODYS -j RETURN`,
    `${table} -E ${chain} MESH-RENAMED`,
  ];
}

function serviceDamages(
  { netns, family, fwmark, scheduler }: ObjectOfKind<'virtual-service'>,
  random: Random,
): string[] {
  const ipvsadm = `${exec(netns)}ipvsadm`;
  const service = `-f ${fwmark}${family === 'inet6' ? ' -6' : ''}`;
  return [
    `${ipvsadm} -D ${service}`,
    `${ipvsadm} -E ${service} -s ${scheduler === 'lc' ? 'rr' : 'lc'}`,
    `${ipvsadm} -E ${service} -s ${scheduler} -p 77`,
    `${ipvsadm} -A -f ${0x10000 + 30_000 + random.below(2_000)} -s rr`,
    `${ipvsadm} -S -n | grep -v -e ' -f ' > /tmp/others; ${ipvsadm} -C; ${ipvsadm} -R < /tmp/others`,
  ];
}

function serverDamages({ netns, family, fwmark, address, port, weight }: ObjectOfKind<'real-server'>): string[] {
  const ipvsadm = `${exec(netns)}ipvsadm`;
  const service = `-f ${fwmark}${family === 'inet6' ? ' -6' : ''}`;
  const server = formatHostPort(address, port);
  const alien = family === 'inet6' ? '[fd99::9]:80' : '10.99.9.9:80';
  return [
    `${ipvsadm} -d ${service} -r ${server}`,
    `${ipvsadm} -e ${service} -r ${server} -m -w ${weight + 5}`,
    `${ipvsadm} -e ${service} -r ${server} -m -w 0`,
    `${ipvsadm} -e ${service} -r ${server} -i -w ${weight}`,
    `${ipvsadm} -e ${service} -r ${server} -m -w ${weight} -x 5 -y 2`,
    `${ipvsadm} -a ${service} -r ${alien} -m`,
  ];
}

/** Objects that may be damaged: those of task namespaces rarely, because their tasks are replaced. */
export function damageTargets(objects: readonly KernelObject[], random: Random): KernelObject[] {
  const meshObjects = objects.filter(({ netns }) => !netns.startsWith('mesh-task-'));
  const taskObjects = objects.filter(({ netns }) => netns.startsWith('mesh-task-'));
  return random.chance(0.15) && taskObjects.length > 0
    ? taskObjects
    : meshObjects.filter((object) => object.kind !== 'netns' || object.netns === LB_NETNS || random.chance(0.5));
}
