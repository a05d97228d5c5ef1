public import LinuxSystem

/// KVM's announcement that a VM object appeared or is gone for good.
public struct VMEvent: Hashable, Sendable {
    public enum Kind: Hashable, Sendable { case created, destroyed }
    public var kind: Kind
    /// The process that created the VM, as its own PID namespace's parent sees it.
    public var creatorPID: Int32
    /// VMs created since KVM was loaded.
    public var createdTotal: UInt64
    /// VMs that exist after this event.
    public var live: UInt64

    /// Nil for an event that is not KVM's.
    public init?(_ event: KernelEvent) {
        guard event.devicePath == "/devices/virtual/misc/kvm", let name = event.properties["EVENT"],
            let pid = event.properties["PID"].flatMap({ Int32($0) })
        else { return nil }
        switch name {
        case "create": kind = .created
        case "destroy": kind = .destroyed
        default: return nil
        }
        creatorPID = pid
        createdTotal = event.properties["CREATED"].flatMap { UInt64($0) } ?? 0
        live = event.properties["COUNT"].flatMap { UInt64($0) } ?? 0
    }
}

/// How many VMs a host has, by KVM's announcements: no right is needed to receive them.
///
/// Each announcement carries the number of VMs that exist, so that one is enough to know all, also those that were
/// there before. Which of them have private memory, no announcement contains.
public struct VMCensus: Hashable, Sendable {
    /// How many VMs are not the caller's own.
    public enum Others: Hashable, Sendable {
        case exactly(UInt64)
        /// Nothing was announced yet, or announcements were lost since the last one.
        case unknown(String)
    }

    /// VMs that exist, by the last announcement; nil before the first one and after a loss.
    public private(set) var live: UInt64?
    /// VMs that were seen to appear and not to go. Key: the thread that made them. Value: their processes.
    private var seen: [Int32: [Int32?]] = [:]
    private var hasLost = false

    public init() {}

    /// - Parameter process: of the creating thread; nil where it is not known.
    public mutating func note(_ event: VMEvent, process: Int32?) {
        live = event.live
        hasLost = false
        switch event.kind {
        case .created: seen[event.creatorPID, default: []].append(process)
        case .destroyed:
            guard var processes = seen[event.creatorPID] else { return }
            processes.removeLast()
            seen[event.creatorPID] = processes.isEmpty ? nil : processes
        }
        // What exists bounds what was seen, also after a loss: then which of them went is not known.
        if UInt64(seen.values.reduce(0) { $0 + $1.count }) > event.live { seen = [:] }
    }

    /// Announcements were lost: the next one has the number again.
    public mutating func noteLoss() {
        live = nil
        hasLost = true
        seen = [:]
    }

    /// VMs that do not belong to the caller's processes.
    /// - Parameters:
    ///   - own: processes whose VMs are the caller's.
    ///   - known: VMs of the caller's processes in all, seen to appear or not; those that were not seen count as own up
    ///     to it.
    public func others(own: Set<Int32>, known: Int) -> Others {
        guard let live else {
            return .unknown(
                hasLost ? "announcements of VMs were lost" : "KVM has announced no VM since tdxd was started")
        }
        let ownSeen = seen.values.joined().count { process in process.map { own.contains($0) } ?? false }
        // A VM that is known to be the caller's and was not seen to appear was there before.
        let mine = UInt64(max(ownSeen, known, 0))
        return .exactly(live > mine ? live - mine : 0)
    }
}
