import type * as dispatch from './gen/dispatch_pb.js';
import type * as pb from './gen/mesh_pb.js';
import type { Plain } from './plain.ts';

/* Messages of mesh.proto and dispatch.proto as plain objects, by the names they have there; those that are in the model come from there. */

export type AgentMessage = Plain<dispatch.AgentMessage>;
export type Answer = Plain<dispatch.Answer>;
export type AppliedService = Plain<pb.AppliedService>;
export type ApplyReply = Plain<pb.ApplyReply>;
export type DoctorReply = Plain<pb.DoctorReply>;
export type Hello = Plain<dispatch.Hello>;
export type InfoReply = Plain<pb.InfoReply>;
export type ManagerMessage = Plain<dispatch.ManagerMessage>;
export type NodeCheckup = Plain<pb.NodeCheckup>;
export type Node = Plain<pb.Node>;
export type NodeAnswer = Plain<pb.NodeAnswer>;
export type NodeDiff = Plain<pb.NodeDiff>;
export type NodePortCondition = Plain<pb.NodePortCondition>;
export type PublishedPort = Plain<pb.PublishedPort>;
export type ScaleTarget = Plain<pb.ScaleTarget>;
export type Service = Plain<pb.Service>;
export type StatusReply = Plain<pb.StatusReply>;
export type Task = Plain<pb.Task>;
export type TaskPort = Plain<pb.TaskPort>;
export type TraceReply = Plain<pb.TraceReply>;
export type TraceRequest = Plain<pb.TraceRequest>;
export type WatchEvent = Plain<pb.WatchEvent>;
export type WatchRequest = Plain<pb.WatchRequest>;
