import CPeers

/// The conversions of a guest that boots, made by rule from a seed: everything becomes private; the bounce buffer is
/// shared in 2 MiB steps; then drivers share rings and buffers of 1 to 16 pages, close together, and give a third of them
/// back.
func bootTrace(pages: UInt32, seed: UInt64 = 1) -> [peer_step] {
    var random = Repeatable(seed: seed)
    var steps = [peer_step(first: 0, pages: pages, state: 1)]
    let bounce: UInt32 = 512 << 10
    for index in 0..<UInt32(512) { steps.append(peer_step(first: bounce + index * 512, pages: 512, state: 0)) }
    var shared: [peer_step] = []
    for _ in 0..<20_000 {
        if shared.count > 16, random.next() % 3 == 0 {
            var back = shared.remove(at: Int(random.next() % UInt64(shared.count)))
            back.state = 1
            steps.append(back)
        } else {
            // Drivers allocate from a few zones of 256 MiB.
            let zone = UInt32(random.next() % 16) * (pages / 16)
            let step = peer_step(
                first: zone + UInt32(random.next() % 65_536), pages: 1 + UInt32(random.next() % 16), state: 0)
            steps.append(step)
            shared.append(step)
        }
    }
    return steps
}
