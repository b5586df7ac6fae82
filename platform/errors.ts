/** One row of the reason-code registry; the same shape as in the SPIFFE library, which stands alone. */
interface Reason {
  readonly severity: 'info' | 'warning' | 'error' | 'critical'
  readonly what: string
  readonly todo: string
}

/** What the machine underneath can refuse. */
export const platformReasons = {
  CS_SEAL_KEY_INVALID: {
    severity: 'critical',
    what: 'The key that seals the data on disk is missing or cannot be used.',
    todo: 'Give the key file or passphrase that the data was sealed with; a key file holds 32 bytes, as raw bytes or as base64.',
  },
  CS_SEAL_BROKEN: {
    severity: 'critical',
    what: 'Sealed data does not open: it was changed, or it was sealed with another key or passphrase.',
    todo: 'Check the passphrase or key file first. If it is right the file is damaged: restore it from a backup. Nothing was overwritten.',
  },
  CS_FOLDER_UNUSABLE: {
    severity: 'critical',
    what: 'A folder that must hold data cannot be created or written.',
    todo: 'Check the owner and permissions of the folder in the message, or configure another one.',
  },
  CS_FILE_UNREADABLE: {
    severity: 'error',
    what: 'A file that is needed cannot be read.',
    todo: 'Check that the path in the message exists and that this user may read it.',
  },
  CS_FILE_UNWRITABLE: {
    severity: 'critical',
    what: 'A file could not be written; the one that was there before is untouched.',
    todo: 'Check free space and permissions of the folder in the message.',
  },
  CS_FILE_TOO_LARGE: {
    severity: 'error',
    what: 'A file is larger than what is read of its kind.',
    todo: 'Check that the path in the message names the right file.',
  },
  CS_FOLDER_IN_USE: {
    severity: 'error',
    what: 'Another process works in the same data folder.',
    todo: 'Stop the process whose id is in the message, or give each its own folder.',
  },
  CS_PORT_TAKEN: {
    severity: 'critical',
    what: 'The address to listen on is in use by another process.',
    todo: 'Stop the other process or configure another port; port 0 lets the system choose one.',
  },
  CS_LISTEN_FAILED: {
    severity: 'critical',
    what: 'The address to listen on cannot be used.',
    todo: 'Check that the address belongs to this machine and that this user may listen on the port.',
  },
} as const satisfies Record<string, Reason>

export type PlatformErrorCode = keyof typeof platformReasons

/** What the machine underneath refused. `code` is stable; `message` is for people and may change. */
export class PlatformError extends Error {
  override readonly name = 'PlatformError'
  readonly code: PlatformErrorCode

  constructor(code: PlatformErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The `code` of a Node system error (`ENOENT`, …), or undefined. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
}
