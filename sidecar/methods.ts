/**
 * Methods registered with IANA, less CONNECT and TRACE: the one would make a tunnel past the policy, the
 * other echoes what the proxy added.
 */
const REGISTERED =
  'ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY ' +
  'MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH ' +
  'PUT QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF ' +
  'VERSION-CONTROL'

const NEVER: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'PRI'])

/** The methods that are served; every other is refused before the policy is asked. */
export function servedMethods(more: readonly string[] = []): ReadonlySet<string> {
  return new Set([...REGISTERED.split(' '), ...more].filter((method) => !NEVER.has(method)))
}
