internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// What the latency model added up.
public struct LatencyTotals: Hashable, Sendable {
    public var calls: UInt64 = 0
    /// Modelled, never measured.
    public var nanoseconds: UInt64 = 0
    public var callsByLeaf: [SeamcallLeaf: UInt64] = [:]
}

/// Who watches calls, and which locks are to be found busy.
struct Observation: Sendable {
    var trace: (@Sendable (TraceEvent) -> Void)?
    var latency: LatencyModel?
    var totals = LatencyTotals()
    var busy: [LockName: Int] = [:]
    /// Odds in 1,000 that a call meets each lock busy, and the state of the generator that decides.
    var randomBusy: (permille: UInt64, state: UInt64)?

    var isNeeded: Bool { trace != nil || latency != nil || !busy.isEmpty || randomBusy != nil }
}

extension TDXModule {
    /// Every call from now on is given to `sink`, in the order in which calls end; nil stops it.
    public func record(_ sink: (@Sendable (TraceEvent) -> Void)?) { change { $0.trace = sink } }

    /// Adds up what calls would take on hardware; nil stops it.
    public func setLatencyModel(_ model: LatencyModel?) { change { $0.latency = model } }

    /// What the latency model added up since it was set or last taken.
    public func takeLatencyTotals() -> LatencyTotals {
        observation.withLock { observation in
            defer { observation.totals = LatencyTotals() }
            return observation.totals
        }
    }

    /// The next `times` calls that name an object with `lock` find it held by another call; 0 forgets it.
    public func makeBusy(_ lock: LockName, times: Int = 1) { change { $0.busy[lock] = times > 0 ? times : nil } }

    /// From now on a call finds each of its locks held with odds of `permille` in 1,000, repeatably for a seed; 0 stops.
    public func makeBusyAtRandom(permille: UInt64, seed: UInt64) {
        change { $0.randomBusy = permille == 0 ? nil : (permille, seed) }
    }

    private func change(_ body: (inout Observation) -> Void) {
        let isNeeded = observation.withLock { observation in
            body(&observation)
            return observation.isNeeded
        }
        isObserved.store(isNeeded, ordering: .releasing)
    }

    func observedSeamcall(_ r: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        watched(&r, processor, kind: .seamcall) { dispatch(&$0, processor) }
    }

    func observedEnter(_ r: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        watched(&r, processor, kind: .enter) { dispatch(&$0, processor, staysInside: true) }
    }

    private func watched(
        _ r: inout Registers, _ processor: LogicalProcessorID, kind: TraceEvent.Kind,
        _ body: (inout Registers) -> TDXStatus
    ) -> TDXStatus {
        let before = r
        let leaf = SeamcallLeaf(rawValue: UInt16(truncatingIfNeeded: r.rax))
        let contents = isTraced ? hostContents(leaf, r) : []
        var held: [(name: LockName, lock: HeldLock)] = []
        if let leaf {
            for name in locksToHold() {
                guard let lock = hold(name, leaf, before, processor) else { continue }
                consume(name)
                held.append((name, lock))
            }
        }
        faults.beginCall()
        let status = body(&r)
        let met = faults.endCall()
        for lock in held { lock.lock.release() }
        note(leaf, before, r)
        emit(
            TraceEvent(
                kind: kind, processor: processor.rawValue, before: before, after: r, contents: contents,
                heldLocks: held.map(\.name), faults: met.map { [$0.fault.rawValue, $0.skipped] }))
        return status
    }

    func observeExit(_ exit: TDExit, _ tdvpr: HostPhysicalAddress, _ r: Registers, _ status: TDXStatus?) {
        guard status != nil else { return }
        emit(TraceEvent(kind: .exit, tdvpr: tdvpr.rawValue, exit: exit, before: Registers(), after: r))
    }

    func observedTDCall(_ r: inout Registers, _ tdvpr: HostPhysicalAddress) -> TDCallOutcome {
        let before = r
        let contents = isTraced ? guestContents(r, tdvpr.rawValue) : []
        let rtmr = observation.withLock { $0.busy[.rtmr] != nil } ? insideVCPU(tdvpr.rawValue)?.td : nil
        let isHeld = rtmr?.pointee.rtmrLock.replace(0, by: Sharex.exclusive) ?? false
        faults.beginCall()
        let outcome = dispatchGuest(&r, tdvpr.rawValue)
        let met = faults.endCall()
        if isHeld, let rtmr {
            rtmr.pointee.rtmrLock.minus(Sharex.exclusive)
            consume(.rtmr)
        }
        var exit: TDExit?
        if case .exit(let reason) = outcome { exit = reason }
        emit(
            TraceEvent(
                kind: .tdcall, tdvpr: tdvpr.rawValue, exit: exit, before: before, after: r, contents: contents,
                heldLocks: isHeld ? [.rtmr] : [], faults: met.map { [$0.fault.rawValue, $0.skipped] }))
        return outcome
    }

    private var isTraced: Bool { observation.withLock { $0.trace != nil } }

    private func emit(_ event: TraceEvent) {
        let sink = observation.withLock { $0.trace }
        sink?(event)
    }

    private func note(_ leaf: SeamcallLeaf?, _ before: Registers, _ after: Registers) {
        guard let leaf, let model = observation.withLock({ $0.latency }) else { return }
        let nanoseconds = model.nanoseconds(leaf, vcpus: vcpuCount(leaf, before, after))
        observation.withLock { observation in
            observation.totals.calls += 1
            observation.totals.nanoseconds += nanoseconds
            observation.totals.callsByLeaf[leaf, default: 0] += 1
        }
    }

    /// The vCPUs of the trust domain that a call was for, of the calls whose cost depends on it; 0 where it has gone.
    private func vcpuCount(_ leaf: SeamcallLeaf, _ before: Registers, _ after: Registers) -> Int {
        let root: UInt64? =
            switch leaf {
            case .memTrack: before.rcx
            // Who owned the page is in the answer.
            case .phymemPageReclaim: after.rdx
            default: nil
            }
        guard let root, let td = findTD(root) else { return 0 }
        return Int(td.pointee.vcpus.get() & 0xFFFF_FFFF)
    }

    /// Locks that the plan wants held for this call, if it needs them.
    private func locksToHold() -> [LockName] {
        observation.withLock { observation in
            var result: [LockName] = []
            for lock in LockName.allCases {
                if observation.busy[lock] != nil { result.append(lock) }
                guard var random = observation.randomBusy else { continue }
                random.state = random.state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                observation.randomBusy = random
                if (random.state >> 33) % 1000 < random.permille, !result.contains(lock) { result.append(lock) }
            }
            return result
        }
    }

    private func consume(_ lock: LockName) {
        observation.withLock { observation in
            guard let times = observation.busy[lock] else { return }
            observation.busy[lock] = times > 1 ? times - 1 : nil
        }
        change { _ in }
    }
}
