// Stands in for node:child_process in meshctl: commander loads it for verbs that are programs of their own, and we have none.
export default {};
