import type { ChannelClient, Connection, LinkStatus, PeerInformation } from './client.ts'
import type { ManagerOptions } from './options.ts'

export class ConnectionManager implements Connection {
  readonly options: ManagerOptions
  constructor(options: ManagerOptions) {
    this.options = options
  }
  /** Binds the drivers and starts to dial. Clients may be registered before and after. */
  start(): void {}
  /** Replaces what is known of the partner's addresses (Pod annotation, log volume); handshakes pass them on as well. */
  setPeerAddresses(_addresses: Readonly<Record<string, string>>): void {}
  /** Called when a handshake taught other addresses of the partner than those known: to be kept for the next start. */
  onPeerAddresses(_listener: (addresses: Readonly<Record<string, string>>) => void): void {}
  register(_client: ChannelClient): void {}
  unregister(_clientId: string): Promise<void> {
    return Promise.resolve()
  }
  peer(): PeerInformation | undefined {
    return undefined
  }
  links(): readonly LinkStatus[] {
    return []
  }
  onPeer(_listener: (peer: PeerInformation | undefined) => void): void {}
  stop(): Promise<void> {
    return Promise.resolve()
  }
}
