/** One waits, others let it pass. Being let through several times before one waits counts once. */
export interface Latch {
  open(): void
  /** Resolves when the latch has been opened, and closes it. */
  passed(): Promise<void>
}

export function latch({ opened }: { readonly opened: boolean }): Latch {
  let isOpen = opened
  let pass = () => {}
  return {
    open() {
      isOpen = true
      pass()
    },
    async passed() {
      if (!isOpen) {
        await new Promise<void>((resolve) => {
          pass = resolve
        })
      }
      isOpen = false
    },
  }
}
