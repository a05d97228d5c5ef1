internal import KVM
public import MemoryUnits
internal import TDXStatusCodes
public import TransitionModel

/// A conversion of a range of virtual addresses under way: the steps of a transition protocol, made one after the other by
/// one CPU. Between two of them anything may happen, which is what other CPUs' loads are tried against.
public struct GuestConversion: Sendable {
    public enum Outcome: Hashable, Sendable {
        case done
        /// The host refused MapGPA with this GHCI status. The range stays as the steps so far left it.
        case refused(status: UInt64)
        /// The notification found no guest-physical address for this one: its range stays as it is, too.
        case untranslatable(GuestVirtualAddress)
        /// A page of the range could not be accepted.
        case notAccepted
    }

    public let range: GuestVirtualRange
    public let direction: TransitionDirection
    /// What the steps so far cost.
    public private(set) var counts = TransitionCounts()
    /// Nil until the last step is made or one failed.
    public private(set) var outcome: Outcome?

    private let kernel: GuestKernel
    private var rest: ArraySlice<TransitionStep>

    init(_ kernel: GuestKernel, _ range: GuestVirtualRange, _ direction: TransitionDirection) {
        self.kernel = kernel
        self.range = range
        self.direction = direction
        rest = kernel.transition.steps[...]
        counts.pages = range.pages.count
    }

    /// The step that `step()` makes next; nil at the end.
    public var next: TransitionStep? { outcome == nil ? rest.first : nil }

    /// Makes the next step; nothing after the end.
    /// - Returns: whether there is another one.
    public mutating func step() throws(GuestFault) -> Bool {
        guard outcome == nil else { return false }
        if let step = rest.popFirst() { outcome = try perform(step) }
        if outcome == nil, rest.isEmpty { outcome = .done }
        guard outcome != nil else { return true }
        kernel.tables.add(counts)
        return false
    }

    /// Nil when the step worked.
    private mutating func perform(_ step: TransitionStep) throws(GuestFault) -> Outcome? {
        let becomesShared = direction == .toShared
        switch step {
        case .removeAliases: try removeAliases()
        case .clearPresent: try changeEntries { $0.isPresent = false }
        case .changeAttribute: try changeEntries { $0.isShared = becomesShared }
        case .clearPresentAndChangeAttribute:
            try changeEntries {
                $0.isPresent = false
                $0.isShared = becomesShared
            }
        case .setPresent: try changeEntries { $0.isPresent = true }
        case .flushTLBs: try flush()
        case .flushCaches: counts.cacheFlushes += 1
        case .notify: return try notify()
        case .notifyBefore: return becomesShared ? nil : try notify()
        case .notifyAfter: return becomesShared ? try notify() : nil
        case .accept: return becomesShared ? nil : try accept()
        }
        return nil
    }

    // MARK: Page tables and TLBs

    private mutating func changeEntries(_ body: (inout GuestPageTableEntry) -> Void) throws(GuestFault) {
        for page in range.pages { try change(page, body) }
    }

    private mutating func removeAliases() throws(GuestFault) {
        for page in range.pages {
            for alias in kernel.tables.mappings(ofPage: page) where alias != page {
                // What is not present needs no write.
                guard kernel.tables.entry(ofPage: alias)?.isPresent == true else { continue }
                try change(alias) { $0.isPresent = false }
            }
        }
    }

    private mutating func change(_ page: UInt64, _ body: (inout GuestPageTableEntry) -> Void) throws(GuestFault) {
        let tables = kernel.tables
        var written = false
        try kernel.processor.step { written = tables.change(page: page, body) }
        if written { counts.pageTableTouches += 1 }
    }

    /// Every CPU's TLB loses the range, through whichever mapping.
    private mutating func flush() throws(GuestFault) {
        try kernel.processor.step {}
        kernel.tables.flush(range.pages.flatMap { kernel.tables.mappings(ofPage: $0) })
        counts.tlbFlushes += 1
    }

    // MARK: The host, and acceptance

    private mutating func notify() throws(GuestFault) -> Outcome? {
        var frames: [GuestFrameNumber] = []
        for page in range.pages {
            guard let frame = kernel.tables.frame(ofPage: page, kernel.transition.translation) else {
                return .untranslatable(GuestVirtualAddress(page * pageSize))
            }
            frames.append(frame)
        }
        for run in Self.runs(frames) {
            let status = try kernel.ask(run, toShared: direction == .toShared) { counts.notifications += 1 }
            guard status == TDVMCallStatus.success.rawValue else { return .refused(status: status) }
        }
        return nil
    }

    private func accept() throws(GuestFault) -> Outcome? {
        // The pages are known since the notification: no second translation that could fail.
        let frames = range.pages.compactMap { kernel.tables.frame(ofPage: $0, .walkAnyway) }
        for run in Self.runs(frames) where try !kernel.accept(run) { return .notAccepted }
        return nil
    }

    /// Pages that follow each other, in one range each.
    private static func runs(_ frames: [GuestFrameNumber]) -> [GuestPhysicalRange] {
        var runs: [GuestPhysicalRange] = []
        for frame in frames {
            if let last = runs.last, last.end == frame.address {
                runs[runs.count - 1] = GuestPhysicalRange(start: last.start, size: last.size + ByteCount(pageSize))
            } else {
                runs.append(GuestPhysicalRange(start: frame.address, size: ByteCount(pageSize)))
            }
        }
        return runs
    }
}

extension GuestKernel {
    /// A conversion whose steps the caller makes.
    public func beginConversion(_ range: GuestVirtualRange, _ direction: TransitionDirection) -> GuestConversion {
        GuestConversion(self, range, direction)
    }

    /// Converts a range by the protocol's steps. Contents are lost in either direction.
    public func convert(
        _ range: GuestVirtualRange, _ direction: TransitionDirection
    ) throws(GuestFault) -> GuestConversion.Outcome {
        var conversion = beginConversion(range, direction)
        while try conversion.step() {}
        return conversion.outcome!
    }

    /// Converts a range of the linear map.
    /// - Returns: false when the host refused, or a page could not be accepted.
    public func convert(_ range: GuestPhysicalRange, toShared: Bool) throws(GuestFault) -> Bool {
        let range = GuestVirtualRange(start: tables.linear(range.start), size: range.size)
        return try convert(range, toShared ? .toShared : .toPrivate) == .done
    }
}
