import type { Result } from '../base/errors.ts';
import type { Family, IpAddress } from '../model/address.ts';
import { decodeError, NLA_F_NESTED } from './attributes.ts';
import { decodeGenl } from './genetlink.ts';
import { familyName, familyNumber, formatField, parseAddress } from './ip.ts';
import { IPVS_CMD, ipvsRequest, putAddressField, type ServiceKey, writeServiceKey } from './ipvs.ts';
import type { NetlinkMessage, NetlinkRequest } from './message.ts';

// include/uapi/linux/ip_vs.h
const CMD_ATTR_DEST = 2;
const DEST_ADDR = 1;
const DEST_PORT = 2;
const DEST_FWD_METHOD = 3;
const DEST_WEIGHT = 4;
const DEST_U_THRESH = 5;
const DEST_L_THRESH = 6;
const DEST_ACTIVE_CONNS = 7;
const DEST_INACT_CONNS = 8;
const DEST_PERSIST_CONNS = 9;
const DEST_ADDR_FAMILY = 11;
/** IP_VS_CONN_F_FWD_MASK; the number of a method is its place in FORWARDING. */
const FWD_MASK = 7;
const FORWARDING = ['masquerade', 'local', 'tunnel', 'route', 'bypass'] as const;
type Forwarding = (typeof FORWARDING)[number];

export interface DestinationKey {
  address: IpAddress;
  /** 0 keeps the port the client asked for (fwmark services). */
  port: number;
}

export interface DestinationSettings {
  /** 0 keeps existing connections and takes no new ones. */
  weight: number;
  /** `masquerade` when not given. */
  forwarding?: Forwarding | undefined;
  /** Most connections, and how few let it in again; 0 without limit. */
  upperThreshold?: number | undefined;
  lowerThreshold?: number | undefined;
}

export interface DestinationEntry extends DestinationKey {
  family: Family;
  weight: number;
  forwarding: Forwarding;
  upperThreshold: number;
  lowerThreshold: number;
  /** Established connections. */
  active: number;
  /** All others: closing ones, UDP. */
  inactive: number;
  persistent: number;
}

function destinationRequest(
  genl: number,
  command: number,
  service: ServiceKey,
  destination: DestinationKey,
  settings: DestinationSettings | undefined,
): NetlinkRequest {
  return ipvsRequest(genl, command, false, (writer) => {
    writeServiceKey(writer, service);
    writer.nested(CMD_ATTR_DEST | NLA_F_NESTED, () => {
      const address = parseAddress(destination.address);
      writer.putU16(DEST_ADDR_FAMILY, familyNumber(address.length === 4 ? 'inet' : 'inet6'));
      putAddressField(writer, DEST_ADDR, address);
      writer.putBe16(DEST_PORT, destination.port);
      if (settings === undefined) return;
      writer.putU32(DEST_FWD_METHOD, FORWARDING.indexOf(settings.forwarding ?? 'masquerade'));
      writer.putU32(DEST_WEIGHT, settings.weight);
      writer.putU32(DEST_U_THRESH, settings.upperThreshold ?? 0);
      writer.putU32(DEST_L_THRESH, settings.lowerThreshold ?? 0);
    });
  });
}

/** `ipvsadm -a`. EEXIST when it is there, ESRCH when the service is not. */
export function newDestination(
  genl: number,
  service: ServiceKey,
  destination: DestinationKey,
  settings: DestinationSettings,
): NetlinkRequest {
  return destinationRequest(genl, IPVS_CMD.newDestination, service, destination, settings);
}

/** `ipvsadm -e`. ENOENT when the real server is not there, ESRCH when the service is not. */
export function setDestination(
  genl: number,
  service: ServiceKey,
  destination: DestinationKey,
  settings: DestinationSettings,
): NetlinkRequest {
  return destinationRequest(genl, IPVS_CMD.setDestination, service, destination, settings);
}

/** `ipvsadm -d`. ENOENT when the real server is not there, ESRCH when the service is not. */
export function deleteDestination(genl: number, service: ServiceKey, destination: DestinationKey): NetlinkRequest {
  return destinationRequest(genl, IPVS_CMD.deleteDestination, service, destination, undefined);
}

/** Real servers of one service. A service that does not exist gives an empty dump, not an error. */
export function dumpDestinations(genl: number, service: ServiceKey): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.getDestination, true, (writer) => writeServiceKey(writer, service));
}

/** Reads answers of dumpDestinations; they do not name their service. */
export function decodeDestination(message: NetlinkMessage): Result<DestinationEntry> {
  const commands = [IPVS_CMD.newDestination, IPVS_CMD.setDestination];
  return decodeGenl('IPVS real server', undefined, commands, message, (top) => {
    const destination = top.nested(CMD_ATTR_DEST);
    const field = destination?.bytes(DEST_ADDR);
    const port = destination?.be16(DEST_PORT);
    if (destination === undefined || field === undefined || port === undefined)
      throw decodeError('no address and port in it');
    // Kernels before 3.18 have one family per service and do not report it here; they are not supported.
    const family = familyName(destination.u16(DEST_ADDR_FAMILY) ?? familyNumber('inet'));
    const method = (destination.u32(DEST_FWD_METHOD) ?? 0) & FWD_MASK;
    const forwarding = FORWARDING[method];
    if (forwarding === undefined) throw decodeError(`forwarding method ${method}`);
    return {
      family,
      address: formatField(field, family),
      port,
      weight: destination.i32(DEST_WEIGHT) ?? 0,
      forwarding,
      upperThreshold: destination.u32(DEST_U_THRESH) ?? 0,
      lowerThreshold: destination.u32(DEST_L_THRESH) ?? 0,
      active: destination.u32(DEST_ACTIVE_CONNS) ?? 0,
      inactive: destination.u32(DEST_INACT_CONNS) ?? 0,
      persistent: destination.u32(DEST_PERSIST_CONNS) ?? 0,
    };
  });
}
