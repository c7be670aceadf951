/** What a driver or a channel has carried. Bytes of payload, and a rough allowance for each frame. */
export interface Traffic {
  bytesSent: number
  bytesReceived: number
  framesSent: number
  framesReceived: number
}

export function noTraffic(): Traffic {
  return { bytesSent: 0, bytesReceived: 0, framesSent: 0, framesReceived: 0 }
}

export function addTraffic(sum: Traffic, more: Traffic): void {
  sum.bytesSent += more.bytesSent
  sum.bytesReceived += more.bytesReceived
  sum.framesSent += more.framesSent
  sum.framesReceived += more.framesReceived
}
