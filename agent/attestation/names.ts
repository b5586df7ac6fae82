import { readFileSync, statSync } from 'node:fs'

/** Names of users and groups as this machine's own files give them; directories over the network are not asked. */
export interface AccountNames {
  user(uid: number): string | undefined
  group(gid: number): string | undefined
}

export interface AccountNamesOptions {
  readonly passwd?: string
  readonly group?: string
}

const MAX_BYTES = 8 * 1024 * 1024

/** Reads a file again only when it has changed; an unreadable or huge one holds no names. */
export function accountNames(options: AccountNamesOptions = {}): AccountNames {
  const users = nameFile(options.passwd ?? '/etc/passwd')
  const groups = nameFile(options.group ?? '/etc/group')
  return {
    user: (uid) => users().get(uid),
    group: (gid) => groups().get(gid),
  }
}

type Names = ReadonlyMap<number, string>
const noNames: Names = new Map()

function nameFile(path: string): () => Names {
  let version: string | undefined
  let names = noNames
  return () => {
    const present = versionOf(path)
    if (present !== version) {
      names = present === undefined ? noNames : readNames(path)
      version = present
    }
    return names
  }
}

function versionOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  if (!stat?.isFile() || stat.size > MAX_BYTES) return undefined
  return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`
}

function readNames(path: string): Names {
  try {
    return parseNames(readFileSync(path, 'utf8'))
  } catch {
    return noNames
  }
}

/** Lines of `name:password:number:…`. Of several names for one number the first counts, as in the C library. */
export function parseNames(text: string): ReadonlyMap<number, string> {
  const names = new Map<number, string>()
  for (const line of text.split('\n')) {
    const [name, , number] = line.split(':', 3)
    if (!name || name.startsWith('#') || !/^\d{1,10}$/.test(number ?? '')) continue
    const id = Number(number)
    if (!names.has(id)) names.set(id, name)
  }
  return names
}
