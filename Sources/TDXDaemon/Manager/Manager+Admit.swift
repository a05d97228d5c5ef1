internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// Letting a TD in: name, key id and memory are taken together, or not at all, or waited for.
extension Manager {
    /// How often a creation that waits has living TDs asked what they hold: counting takes a holder 20 ms for each GiB.
    private static let askingInterval = Duration.seconds(1)

    /// Takes what the TD needs, waiting for it as long as the request says.
    ///
    /// - Parameter firmware: the image's size.
    /// - Throws: the refusal; nothing is taken then.
    func admit(
        _ request: CreateRequest, firmware: ByteCount, for uid: UInt32, isLeft: () -> Bool, progress: (Progress) -> Void
    ) throws(ControlError) -> DomainRecord {
        guard let wait = request.waitMilliseconds else { return try reserve(request, firmware, for: uid) }
        let deadline = MonotonicInstant.now + wait.duration
        let total = (try? MemoryInformation.ofHost())?.total
        let ticket = try core.withLock { (core: inout sending Core) throws(ControlError) in
            try core.registry.checkName(request.name.name, for: uid)
            return try core.queue.enter(for: uid == 0 || uid == ownUID ? nil : uid)
        }
        defer { core.withLock { $0.queue.leave(ticket) } }
        var refusal: ControlError?
        var nextReport = MonotonicInstant.now
        var nextAsking = MonotonicInstant.now
        var isTold = false
        func tell(_ reason: String) {
            guard !isTold else { return }
            isTold = true
            log.info("a creation waits", metadata: ["td": "\(request.name)", "reason": "\(reason)"])
        }
        while true {
            let (position, isLeaving) = core.withLock { ($0.queue.position(of: ticket), $0.isLeaving) }
            try checkLauncher(request.name.rawValue)
            guard !isLeaving else { throw .tryAgain(reason: "tdxd is stopping") }
            guard !isLeft() else {
                log.info("a creation is dropped, since its client has left", metadata: ["td": "\(request.name)"])
                throw .tryAgain(reason: "the client has left")
            }
            if position == 0 {
                let asks = nextAsking <= .now
                if asks { nextAsking = .now + Self.askingInterval }
                do throws(ControlError) { return try reserve(request, firmware, for: uid, asks: asks) } catch {
                    guard error.mayPass(onHostWith: total) else { throw error }
                    refusal = error
                    tell("\(error)")
                }
            }
            let others = position > 0 ? "\(counted(position, "creation")) before it" : nil
            if let others { tell(others) }
            guard MonotonicInstant.now < deadline else {
                throw refusal ?? .tryAgain(reason: others ?? "the time to wait is over")
            }
            if nextReport <= .now {
                nextReport = .now + .seconds(1)
                progress(
                    Progress(phase: "wait", doneBytes: 0, totalBytes: 0, detail: others ?? refusal.map { "\($0)" }))
            }
            Self.sleep(milliseconds: 50)
        }
    }

    /// Takes the name, a key id and memory, or nothing of it.
    ///
    /// What a living TD holds is not promised to it any more. It changes with every conversion and every first touch, so that it
    /// is only asked for where memory would be too little otherwise.
    /// - Parameter asks: false for one who has just asked.
    private func reserve(
        _ request: CreateRequest, _ firmware: ByteCount, for uid: UInt32, asks: Bool = true
    ) throws(ControlError) -> DomainRecord {
        do throws(ControlError) { return try take(request, firmware, for: uid, holdings: [:]) } catch {
            guard case .insufficientMemory = error, asks else { throw error }
            return try take(request, firmware, for: uid, holdings: holdings())
        }
    }

    /// What each living TD holds now: by its control group, or else by its holder, who counts. Blocks for at most
    /// `listPatience` and a little; then what was known before has to do.
    private func holdings() -> [String: Holding] {
        var holdings: [String: Holding] = [:]
        let living = core.withLock { $0.registry.living }
        for domain in living {
            if let held = groups?.heldMemory(domain.record.name) {
                holdings[domain.record.id] = .charged(
                    MemoryDemand.sum([held.anonymous, held.shared, held.unevictable]))
            }
        }
        guard holdings.count < living.count else { return holdings }
        for domain in list() where holdings[domain.id] == nil {
            holdings[domain.id] = domain.residentBytes.map { .resident(ByteCount($0)) }
        }
        return holdings
    }

    private func take(
        _ request: CreateRequest, _ firmware: ByteCount, for uid: UInt32, holdings: [String: Holding]
    ) throws(ControlError) -> DomainRecord {
        let id = Self.freshID()
        let room = try HostMemory.room(reserve: configuration.memory.reserve)
        try disk.admit()
        let descriptors = DescriptorRoom.ofThisProcess(connections: configuration.limits.connections)
        return try core.withLock { (core: inout sending Core) throws(ControlError) -> DomainRecord in
            guard !core.isLeaving else { throw .tryAgain(reason: "tdxd is stopping") }
            if let drain = core.drain {
                throw .tryAgain(
                    reason: "the host has been draining for \(drain.purpose.words) since \(drain.since); "
                        + "“tdxctl drain --undo” ends that")
            }
            if let flaw = core.drainFlaw {
                throw .tryAgain(
                    reason:
                        "whether the host is being emptied is not known: \(flaw); “tdxctl drain --undo” lets new TDs in"
                )
            }
            // Decided on copies, so that a refusal in the middle changes nothing.
            var registry = core.registry
            var ledger = core.ledger
            try registry.checkName(request.name.name, for: uid)
            let count = registry.domains.values.count { $0.state != .failed }
            let limit = core.configuration.limits.trustDomains
            guard count < limit else {
                throw .limitReached(
                    resource: .trustDomains, needed: 1, available: 0, limit: "\(counted(limit, "TD")), as configured")
            }
            let backend = Self.expectedBackend(core)
            try room.admit(
                MemoryDemand(guest: request.memoryBytes.bytes + firmware, on: backend),
                promised: registry.promised(expecting: backend, holdings))
            let shardMinimum = core.configuration.memory.shardMinimum
            let promised = registry.domains.values.filter { $0.state == .building }.map {
                DescriptorRoom.needed(ByteCount($0.record.memoryBytes), shardMinimum: shardMinimum)
            }
            try descriptors?.admit(
                needed: DescriptorRoom.needed(request.memoryBytes.bytes, shardMinimum: shardMinimum),
                promised: promised.reduce(0, +))
            let key = try ledger.reserve(for: id)
            let record = DomainRecord(
                name: request.name.rawValue, id: id, memoryBytes: request.memoryBytes.bytes.rawValue,
                vcpus: request.vcpus.count, firmware: request.firmware?.rawValue, firmwareBytes: firmware.rawValue,
                createdAt: WallTime.now.rfc3339, ownerUID: uid, keyID: key.rawValue)
            try registry.reserve(record)
            core.registry = registry
            core.ledger = ledger
            return record
        }
    }

    /// 32 hexadecimal digits that were never used before.
    private static func freshID() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<2).map { _ in
            let digits = String(generator.next(), radix: 16)
            return String(repeating: "0", count: 16 - digits.utf8.count) + digits
        }.joined()
    }
}
