import { type NetlinkSocket, openNetlink } from '../../../native/index.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { decodeMessages, type NetlinkMessage } from '../../netlink/message.ts';
import { announcesLocalAddress } from '../../netlink/route.ts';
import { isTaskNetns, type Namespaces } from '../driver/namespaces.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { createFirewallEventReader } from '../firewall/nf-tables.ts';
import type { KernelEvent } from '../kinds/kind.ts';
import { createLinkView } from '../observe/observe-links.ts';
import { actorFromPortId } from './actors.ts';
import { decodeEvents, eventGroups } from './events.ts';
import { hasPendingEvents, noPendingEvents, type PendingEvents, recordEvent } from './pending-events.ts';

const NFNLGRP_NFTABLES = 7;
const HOST_GROUPS = eventGroups(true);
const NETNS_GROUPS = eventGroups(false);

export interface EventHandlerContext {
  transport: Transport;
  namespaces: Namespaces;
  /** Whether this process was an iptables run of ours. */
  isOwnProcess(pid: number): boolean;
}

/** The event sockets of one netns. */
export interface EventHandler {
  /** Of the namespace that the sockets are in. */
  readonly identity: string;
  /** Events since the last call. */
  takeEvents(): PendingEvents;
  close(): void;
}

/**
 * Subscribes to the events of a netns; `onPending` is called when there are any to evaluate. Events name links by
 * ifindex, so those that arrive before the names are known are read afterwards.
 */
export function openEventHandler(
  context: EventHandlerContext,
  netns: string,
  identity: string,
  onPending: () => void,
): EventHandler {
  const { transport, namespaces } = context;
  const linkNames = new Map<number, string>();
  let pending = noPendingEvents();
  let phase: { name: 'resolving link names'; buffered: NetlinkMessage[] } | { name: 'reading' } = {
    name: 'resolving link names',
    buffered: [],
  };

  function subscribe(
    protocol: number,
    groups: readonly number[],
    onMessage: (message: NetlinkMessage) => void,
  ): NetlinkSocket {
    const socket = openNetlink({ netns: namespaces.path(netns), protocol, groups }, (event) => {
      if (event.type !== 'data') pending.eventsLost = true;
      else {
        for (const datagram of event.messages) {
          const decoded = decodeMessages(datagram);
          if (decoded.ok) decoded.value.forEach(onMessage);
          else pending.eventsLost = true;
        }
      }
      if (hasPendingEvents(pending)) onPending();
    });
    return socket.unref();
  }

  function handleMessage(message: NetlinkMessage): void {
    if (phase.name === 'resolving link names') {
      phase.buffered.push(message);
      return;
    }
    pending.localAddressAdded ||= netns === HOST_NETNS && announcesLocalAddress(message);
    for (const event of decodeEvents(netns, message, (index) => linkNames.get(index))) {
      // An event that names no object cannot be compared with what is known.
      if (event.of === 'kind' && transport.isOwnSocket(netns, NETLINK_ROUTE, message.portId)) continue;
      if (event.of === 'link') followLinkName(event);
      recordEvent(pending, event, actorFromPortId(message.portId));
    }
  }

  function followLinkName({ name, link, removed }: KernelEvent & { of: 'link' }): void {
    if (removed) linkNames.delete(link.index);
    else linkNames.set(link.index, name);
  }

  async function resolveLinkNames(): Promise<void> {
    try {
      const links = await createLinkView(transport, namespaces).linksOf(netns);
      for (const { index, name } of links) linkNames.set(index, name);
    } catch {
      pending.eventsLost = true;
    }
    const buffered = phase.name === 'resolving link names' ? phase.buffered : [];
    phase = { name: 'reading' };
    buffered.forEach(handleMessage);
    if (hasPendingEvents(pending)) onPending();
  }

  const sockets = [subscribe(NETLINK_ROUTE, netns === HOST_NETNS ? HOST_GROUPS : NETNS_GROUPS, handleMessage)];
  if (!isTaskNetns(netns)) {
    const firewall = createFirewallEventReader(context.isOwnProcess);
    sockets.push(
      subscribe(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], (message) => {
        const foreign = firewall.foreignChange(message);
        if (foreign === undefined) return;
        pending.firewallChanged = true;
        if (foreign.by !== undefined) pending.firewallActors.push(foreign.by);
      }),
    );
  }
  void resolveLinkNames();
  return {
    identity,
    takeEvents() {
      const events = pending;
      pending = noPendingEvents();
      return events;
    },
    close() {
      for (const socket of sockets) socket.close();
    },
  };
}
