/**
 * Two limits of a client's node, in its own network namespace, without which its NFS connections lead to a lost node for five minutes
 * (docs/nfs.md, "A node is lost").
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const NETFILTER = '/proc/sys/net/netfilter'
export const LIMITS = [
  'nf_conntrack_tcp_timeout_unacknowledged',
  'nf_conntrack_tcp_timeout_max_retrans',
] as const

/** Lowers what is higher; gives what was changed, in words. Throws where there is no connection tracking. */
export function lowerLimits(seconds: number, folder = NETFILTER): string[] {
  return LIMITS.flatMap((name) => {
    const path = join(folder, name)
    const before = Number(readFileSync(path, 'utf8'))
    // A person may want less: that is theirs.
    if (before <= seconds) return []
    writeFileSync(path, String(seconds))
    return [`${name}: ${before} s, now ${seconds} s`]
  })
}
