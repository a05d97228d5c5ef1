internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// What was read of the host about the end of one TD, in one pass.
struct TeardownEvidence: Hashable, Sendable {
    /// How the holder's process is known to be gone; nil while it lives.
    var holderExit: String?
    /// Bytes present in the files of tdxd's duplicates; nil where there were none or they could not be read.
    var residentBytes: UInt64?
    /// Why there is no figure.
    var residencyUnknown: String?
    /// The holder has counted, after its last punch, and nothing was left.
    var holderCountedNothing = false
    /// The calls that the figure comes from.
    var residencyMethod = FileMemory.residencyMethod
    /// Files that tdxd had duplicates of, and whether those are closed.
    var duplicates: Int
    var duplicatesClosed: Bool
    /// Backing files that were looked for; 0 when their inodes were never known.
    var filesSought: Int
    /// Who holds one of them by descriptor or mapping.
    var holders: [String]
    var processesSeen: Int
    /// Processes that may not be looked into.
    var processesUnseen: Int
    /// Processes that have so many descriptors or mappings that there was no time to look at all of them.
    var processesUnfinished = 0
    /// Processes of other users are not even listed.
    var othersAreHidden = false
    /// Why /proc could not be looked through.
    var scanFailure: String?
    var machine: Machine
    /// What is still charged to the TD's own control group; nil where memory is not accounted by TD.
    var heldMemory: HeldMemory?
    /// The misc controller's charge for the TD's key id.
    var keyCharge = KeyCharge.unavailable("not looked at")

    /// What became of the VM object.
    enum Machine: Hashable, Sendable {
        /// The backend has none.
        case none
        case destroyed(millisecondsAfterClose: Double)
        /// Its creation was announced, its destruction not yet.
        case notDestroyed(creators: [Int32])
        /// debugfs no longer lists it.
        case absentFromDebugFS(String)
        case listedInDebugFS(String)
        /// KVM's announcements do not reach this process.
        case unobservable
        /// It may have ended before this process listened: whether it did follows from no process holding its files.
        case perhapsEndedUnheard

        /// What debugfs, which names a VM “THREAD-DESCRIPTOR” after the thread that created it, shows of the VMs of some
        /// threads.
        ///
        /// - Returns: nil when no thread is known: then any name could be the VM's, and its absence proves nothing.
        static func inDebugFS(_ names: [String], at directory: String, creators: Set<Int32>) -> Self? {
            guard !creators.isEmpty else { return nil }
            let prefixes = creators.map { "\($0)-" }
            guard let left = names.first(where: { name in prefixes.contains { name.hasPrefix($0) } }) else {
                return .absentFromDebugFS(directory)
            }
            return .listedInDebugFS("\(directory)/\(left)")
        }

        /// What follows where neither an announcement nor debugfs shows the end.
        ///
        /// - Parameters:
        ///   - creators: the threads that created VMs in the holder; empty when no announcement ever came through.
        ///   - lostEvents: announcements were lost since the end began.
        ///   - wasKept: this process held the VM by duplicates of its files, or started its holder: then it cannot have
        ///     ended unheard.
        static func unannounced(creators: Set<Int32>, lostEvents: Bool, wasKept: Bool) -> Self {
            if creators.isEmpty || lostEvents { return .unobservable }
            return wasKept ? .notDestroyed(creators: creators.sorted()) : .perhapsEndedUnheard
        }
    }
}

/// The proofs that follow from the evidence. The key id's own proof is not among them: it follows from these.
enum TeardownProofs {
    /// The holder's own.
    static let holderResidency = "holder_residency"
    static let holderGone = "holder_gone"
    static let residencyZero = "residency_zero"
    static let duplicatesClosed = "duplicates_closed"
    static let noOtherHolder = "no_other_holder"
    static let vmDestroyed = "vm_destroyed"
    static let memoryBack = "memory_back"
    static let keyUncharged = "key_id_uncharged"
    static let keyReturned = "key_id_returned"

    /// What may stay charged to a group without processes: the kernel counts pages in batches, a few for each CPU.
    static let memoryTolerance = ByteCount.mebibytes(1)

    static func derive(from evidence: TeardownEvidence) -> [TeardownProof] {
        [
            holderGone(evidence), residency(evidence), closed(evidence), holders(evidence), machine(evidence),
        ] + (evidence.heldMemory.map { [memory($0)] } ?? []) + (evidence.keyCharge.proof.map { [$0] } ?? [])
    }

    /// Whether nothing of the TD is left that could still change: then its key id is free, and its directory goes.
    ///
    /// - Parameter residencyIsKnown: it was measured. Where it was not, because tdxd had no duplicates, it never will be;
    ///   the certificate has that, and that the VM is gone is what frees the key id.
    static func isOver(_ proofs: [TeardownProof], residencyIsKnown: Bool) -> Bool {
        proofs.allSatisfy { $0.holds || ($0.name == residencyZero && !residencyIsKnown) }
    }

    private static func holderGone(_ evidence: TeardownEvidence) -> TeardownProof {
        TeardownProof(
            name: holderGone, holds: evidence.holderExit != nil,
            evidence: evidence.holderExit ?? "the holder's process has not ended")
    }

    /// Without duplicates the figure follows from the kernel's rule that a file without a holder has no pages, which takes a look at
    /// every process, or from the holder's own count: only who has the file could have put pages into it since.
    private static func residency(_ evidence: TeardownEvidence) -> TeardownProof {
        if let bytes = evidence.residentBytes {
            return TeardownProof(
                name: residencyZero, holds: bytes == 0,
                evidence: "\(evidence.residencyMethod) over \(counted(evidence.duplicates, "file")): "
                    + "\(bytes) bytes resident")
        }
        let why = evidence.residencyUnknown ?? "there were no duplicates"
        guard evidence.filesSought > 0, nobodyHolds(evidence), evidence.processesUnseen == 0,
            evidence.processesUnfinished == 0, !evidence.othersAreHidden
        else {
            guard evidence.holderCountedNothing, evidence.filesSought > 0, nobodyHolds(evidence) else {
                return TeardownProof(name: residencyZero, holds: false, evidence: "not measured: \(why)")
            }
            return TeardownProof(
                name: residencyZero, holds: true,
                evidence:
                    "not measured: \(why); the holder counted 0 bytes before it closed the files, and no process that can be "
                    + "seen holds one", unseen: unseen(evidence))
        }
        return TeardownProof(
            name: residencyZero, holds: true,
            evidence: "not measured: \(why); the kernel frees the pages of a file that no process holds, and none of "
                + "\(counted(evidence.processesSeen, "process", plural: "processes")) holds one of "
                + "\(counted(evidence.filesSought, "file"))")
    }

    private static func closed(_ evidence: TeardownEvidence) -> TeardownProof {
        TeardownProof(
            name: duplicatesClosed, holds: evidence.duplicatesClosed,
            evidence: evidence.duplicates == 0
                ? "tdxd has no duplicates"
                : "\(counted(evidence.duplicates, "duplicate")) of tdxd \(evidence.duplicates == 1 ? "is" : "are") "
                    + (evidence.duplicatesClosed ? "closed" : "open"))
    }

    private static func memory(_ held: HeldMemory) -> TeardownProof {
        TeardownProof(
            name: memoryBack, holds: held.total <= memoryTolerance,
            evidence: "memory.stat of the TD's control group: \(held.anonymous.rawValue) bytes anonymous, "
                + "\(held.shared.rawValue) of memfds, \(held.unevictable.rawValue) unevictable; at most "
                + "\(memoryTolerance.rawValue) may stay counted")
    }

    private static func nobodyHolds(_ evidence: TeardownEvidence) -> Bool {
        evidence.scanFailure == nil && evidence.holders.isEmpty
    }

    private static func holders(_ evidence: TeardownEvidence) -> TeardownProof {
        func proof(_ holds: Bool, _ text: String, unseen: String? = nil) -> TeardownProof {
            TeardownProof(name: noOtherHolder, holds: holds, evidence: text, unseen: unseen)
        }
        if let failure = evidence.scanFailure { return proof(false, "/proc could not be looked through: \(failure)") }
        guard evidence.filesSought > 0 else { return proof(false, "the backing files' inodes are not known") }
        guard evidence.holders.isEmpty else {
            return proof(false, "held by " + evidence.holders.prefix(8).joined(separator: ", "))
        }
        let seen = counted(evidence.processesSeen, "process", plural: "processes")
        return proof(
            true, "none of \(seen) holds one of \(counted(evidence.filesSought, "file"))", unseen: unseen(evidence))
    }

    /// Which processes could not be looked into; nil when all could.
    private static func unseen(_ evidence: TeardownEvidence) -> String? {
        var parts: [String] = []
        if evidence.processesUnseen > 0 {
            let unseen = counted(evidence.processesUnseen, "process", plural: "processes")
            parts.append("\(unseen) of other users could not be looked into")
        }
        if evidence.processesUnfinished > 0 {
            let unfinished = counted(evidence.processesUnfinished, "process", plural: "processes")
            parts.append("\(unfinished) with too many descriptors or mappings to be looked through in time")
        }
        if evidence.othersAreHidden { parts.append("processes of other users are hidden from tdxd (hidepid)") }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }

    private static func machine(_ evidence: TeardownEvidence) -> TeardownProof {
        func proof(_ holds: Bool, _ text: String) -> TeardownProof {
            TeardownProof(name: vmDestroyed, holds: holds, evidence: text)
        }
        switch evidence.machine {
        case .none: return proof(true, "the backend has no VM object")
        case .destroyed(let milliseconds):
            let delay = (milliseconds * 1000).rounded() / 1000
            return proof(true, "KVM announced the VM's destruction \(delay) ms after the last descriptor was closed")
        case .notDestroyed(let creators):
            return proof(false, "KVM has not announced the end of a VM that thread \(creators) created")
        case .absentFromDebugFS(let path): return proof(true, "\(path) lists no VM of the holder")
        case .listedInDebugFS(let path): return proof(false, "\(path) still exists")
        case .unobservable: return concluded("KVM's announcements do not reach this process")
        case .perhapsEndedUnheard: return concluded("the VM's end, if announced, was before this tdxd listened")
        }
        func concluded(_ reason: String) -> TeardownProof {
            let gone = evidence.holderExit != nil && nobodyHolds(evidence) && evidence.duplicatesClosed
            return TeardownProof(
                name: vmDestroyed, holds: gone,
                evidence: reason + "; "
                    + (gone ? "no process holds a file that would keep the VM" : "something may still keep the VM"),
                unseen: gone ? unseen(evidence) : nil)
        }
    }
}

/// What the kernel's misc controller charges for TDX key ids: one unit is charged to the group of a TD's creator from INIT_VM until
/// the VM object is destroyed. Source: reference/kvm.md §4.6.
enum KeyCharge: Hashable, Sendable {
    /// Units that are charged to the TD's own control group.
    case group(UInt64)
    /// Units of the whole host, other users of TDX among them: no proof, but what there is to be seen.
    case host(UInt64)
    /// Nothing can be seen; why.
    case unavailable(String)

    static let resource = "tdx"

    /// - Parameters:
    ///   - backend: emulated key ids are the software module's, and not charged.
    ///   - group: the TD's own group; nil where it has none.
    ///   - root: where control groups are mounted.
    static func read(_ backend: Backend, group: String?, root: String = "/sys/fs/cgroup") -> Self {
        guard !backend.isEmulated else {
            return .unavailable("the key id is emulated, and the kernel's misc controller knows nothing of it")
        }
        if let group, let own = try? MiscResource.current(ofGroup: group), let amount = amount(own) {
            return .group(amount)
        }
        do throws(LinuxError) {
            guard let amount = amount(try MiscResource.current(root: root)) else {
                return .unavailable("misc.current has no line “\(resource)”")
            }
            return .host(amount)
        } catch {
            return .unavailable("\(error)")
        }
    }

    private static func amount(_ resources: [MiscResource]) -> UInt64? {
        resources.first { $0.name == resource }?.amount
    }

    /// A statement of its own only where it is about this TD alone.
    var proof: TeardownProof? {
        guard case .group(let amount) = self else { return nil }
        return TeardownProof(
            name: TeardownProofs.keyUncharged, holds: amount == 0,
            evidence: "misc.current of the TD's control group: \(amount) of resource “\(Self.resource)”")
    }

    /// For the evidence of the key id's return.
    var words: String {
        switch self {
        case .group(let amount): "misc.current of the TD's control group is \(amount)"
        case .host(let amount): "misc.current of the host is \(amount), whoever's they are"
        case .unavailable(let reason): "misc.current is not available: \(reason)"
        }
    }
}
