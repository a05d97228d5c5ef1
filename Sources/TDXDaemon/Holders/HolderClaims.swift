internal import CLinux
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Terms
internal import Varlink

/// What a holder's numbers can be. A holder is a process that may have been taken over, or was never tdxd's: each number is
/// checked when it is read, so that sums of them cannot overflow and nothing is counted that the TD cannot have.
struct HolderClaims: Hashable, Sendable {
    /// RAM and firmware of the TD, in bytes: no side of it can be more.
    let guestBytes: UInt64

    /// Largest firmware image, for a record from before its size was noted.
    private static let firmwareLimit: UInt64 = 64 << 20
    /// Guest-physical addresses are below.
    private static let addressLimit: UInt64 = 1 << 52
    /// Far beyond what any host has; sums of many stay below 2^64.
    private static let countLimit: UInt64 = 1 << 53

    init(guestBytes: UInt64) { self.guestBytes = guestBytes }

    init(_ record: DomainRecord) {
        let memory = min(record.memoryBytes, MemorySize.maximum.rawValue)
        guestBytes = memory + min(record.firmwareBytes ?? Self.firmwareLimit, Self.firmwareLimit)
    }

    /// What a backing file may have: the kernel rounds regions up to whole blocks.
    var fileLimit: UInt64 { guestBytes + (2 << 20) }

    private func bounded(_ field: String, _ value: UInt64?, _ limit: UInt64) throws(Refusal) {
        guard let value, value > limit else { return }
        throw Refusal(field: field, value: String(value), limit: "at most \(limit)")
    }

    private func duration(_ field: String, _ milliseconds: Double) throws(Refusal) {
        guard milliseconds.isFinite, (0...1e12).contains(milliseconds) else {
            throw Refusal(field: field, value: "\(milliseconds)", limit: "0 to 10^12")
        }
    }

    /// Of another TD, or of another process, than the record's.
    func check(_ description: HolderInterface.Description) throws(Refusal) {
        try bounded("memory_bytes", description.memoryBytes, guestBytes)
        try bounded("private_bytes", description.privateBytes, guestBytes)
        try bounded("shared_bytes", description.sharedBytes, guestBytes)
        try bounded("converting_bytes", description.convertingBytes, guestBytes)
        try bounded(
            "private_bytes, shared_bytes and converting_bytes",
            description.privateBytes + description.sharedBytes + description.convertingBytes, guestBytes)
        try bounded("resident_private_bytes", description.residentPrivateBytes, 2 * fileLimit)
        try bounded("resident_shared_bytes", description.residentSharedBytes, 2 * fileLimit)
        guard (0...4096).contains(description.vcpus) else {
            throw Refusal(field: "vcpus", value: String(description.vcpus), limit: "0 to 4096")
        }
        guard description.pid > 0 else { throw Refusal(field: "pid", value: "\(description.pid)", limit: "1 or more") }
        try description.ending.map { step throws(Refusal) in try check(step) }
    }

    func check(_ progress: Progress) throws(Refusal) {
        try bounded("progress.total_bytes", progress.totalBytes, 4 * fileLimit)
        try bounded("progress.done_bytes", progress.doneBytes, 4 * fileLimit)
    }

    /// Pages by state, as they are published; false where they cannot be the TD's.
    func admit(_ pages: SIMD4<UInt64>) -> Bool {
        let limit = guestBytes / pageSize + 1
        guard (0..<4).allSatisfy({ pages[$0] <= limit }) else { return false }
        return pages[0] + pages[1] + pages[2] + pages[3] <= limit
    }

    /// A whole map: each range once.
    func check(_ runs: [MemoryRun]) throws(Refusal) {
        var end: UInt64 = 0
        for run in runs {
            try check(run)
            guard run.gpa >= end else {
                throw Refusal(
                    field: "runs", value: "\(run.bytes) bytes at \(run.gpa)", limit: "in ascending order, none twice")
            }
            end = run.gpa + run.bytes
        }
    }

    /// Changes come in the order of time: a range may come again. A snapshot is a whole map.
    func check(changes runs: [MemoryRun], isSnapshot: Bool) throws(Refusal) {
        if isSnapshot { return try check(runs) }
        for run in runs { try check(run) }
    }

    private func check(_ run: MemoryRun) throws(Refusal) {
        guard run.gpa < Self.addressLimit, run.bytes > 0, run.bytes <= guestBytes else {
            throw Refusal(
                field: "runs", value: "\(run.bytes) bytes at \(run.gpa)",
                limit: "below 2^52, and at most \(guestBytes) bytes")
        }
    }

    func check(_ reply: HolderInterface.Convert.Reply) throws(Refusal) {
        try bounded("changed_bytes", reply.changedBytes, guestBytes)
        try bounded("discarded_bytes", reply.discardedBytes, 2 * fileLimit)
        try duration("milliseconds", reply.milliseconds)
        try reply.progress.map { step throws(Refusal) in try check(step) }
    }

    func check(_ reply: HolderInterface.Verify.Reply) throws(Refusal) {
        try bounded("checked_bytes", reply.checkedBytes, 2 * fileLimit)
        try bounded("wasted_bytes", reply.wastedBytes, 2 * fileLimit)
        for range in reply.ranges {
            try bounded("ranges.gpa", range.gpa, Self.addressLimit)
            try bounded("ranges.bytes", range.bytes, guestBytes)
            try bounded("ranges.wasted_bytes", range.wastedBytes, 2 * fileLimit)
        }
        try duration("milliseconds", reply.milliseconds)
    }

    func check(_ reply: HolderInterface.PlanStop.Reply) throws(Refusal) {
        try bounded("resident_private_bytes", reply.residentPrivateBytes, 2 * fileLimit)
        try bounded("resident_shared_bytes", reply.residentSharedBytes, 2 * fileLimit)
        for step in reply.steps { try bounded("steps.bytes", step.bytes, 4 * fileLimit) }
    }

    func check(_ reply: HolderInterface.Stop.Reply) throws(Refusal) {
        try reply.progress.map { step throws(Refusal) in try check(step) }
        try bounded("released_bytes", reply.releasedBytes, 4 * fileLimit)
        guard reply.phases?.count ?? 0 <= 64, reply.proofs?.count ?? 0 <= 64 else {
            throw Refusal(field: "phases", value: "more than 64", limit: "at most 64 phases and 64 proofs")
        }
        for phase in reply.phases ?? [] {
            try bounded("phases.bytes", phase.bytes, 4 * fileLimit)
            try duration("phases.milliseconds", phase.milliseconds)
            guard phase.calls >= 0, UInt64(phase.calls) <= Self.countLimit else {
                throw Refusal(field: "phases.calls", value: "\(phase.calls)", limit: "0 to 2^53")
            }
        }
    }

    func check(_ reply: HolderInterface.Conversions.Reply) throws(Refusal) {
        for direction in reply.directions {
            for (field, value) in [
                ("count", direction.count), ("changed_bytes", direction.changedBytes),
                ("discarded_bytes", direction.discardedBytes), ("failures", direction.failures),
                ("cancelled", direction.cancelled), ("merged", direction.merged),
            ] { try bounded("directions.\(field)", value, Self.countLimit) }
        }
        for block in reply.hottest {
            try bounded("hottest.gpa", block.gpa, Self.addressLimit)
            try bounded("hottest.bytes", block.bytes, Self.addressLimit)
        }
        for one in reply.conversions {
            try bounded("conversions.gpa", one.gpa, Self.addressLimit)
            try bounded("conversions.bytes", one.bytes, guestBytes)
            try bounded("conversions.done_bytes", one.doneBytes, guestBytes)
        }
    }

    /// Whether a descriptor is what guest memory can be: a guest_memfd, or a memfd. Any other file could block whoever counts
    /// or punches it, or belong to another user.
    /// - Returns: its size and identity.
    func checkBacking(
        _ descriptor: borrowing OwnedDescriptor, claimed inode: UInt64
    ) throws(Refusal) -> (size: ByteCount, identity: FileIdentity) {
        let status: FileStatus
        do throws(LinuxError) { status = try descriptor.status() } catch {
            throw Refusal(field: "files", value: "\(error)", limit: "a file")
        }
        let fileSystem = tdxd_file_system(descriptor.rawValue)
        guard Self.memoryFileSystems.contains(fileSystem) else {
            throw Refusal(field: "files", value: "inode \(status.identity.inode)", limit: "a guest_memfd or memfd")
        }
        // A memfd has no link; a file that has one belongs to another program. A guest_memfd counts one link, and its
        // file system has no names.
        guard status.links == 0 || !Self.namingFileSystems.contains(fileSystem) else {
            throw Refusal(field: "files", value: "a file with a name", limit: "a guest_memfd or memfd")
        }
        guard status.identity.inode == inode else {
            throw Refusal(
                field: "files.inode", value: "\(inode)", limit: "\(status.identity.inode), as the file has it")
        }
        try bounded("files.bytes", status.size.rawValue, fileLimit)
        return (status.size, status.identity)
    }

    /// TMPFS_MAGIC, HUGETLBFS_MAGIC: a memfd's, and those of files with names.
    private static let namingFileSystems: Set<Int64> = [0x0102_1994, 0x9584_58f6]
    /// With GUEST_MEMFD_MAGIC, ANON_INODE_FS_MAGIC (guest_memfd before Linux 6.18).
    private static let memoryFileSystems: Set<Int64> = namingFileSystems.union([0x474d_454d, 0x0904_1934])
}

/// A reply of a holder whose numbers are checked before anything is made of them.
protocol HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal)
}

extension NoParameters: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) {}
}

extension HolderInterface.Build.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) {
        try progress.map { step throws(Refusal) in try claims.check(step) }
        try description.map { description throws(Refusal) in try claims.check(description) }
    }
}

extension HolderInterface.Describe.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(description) }
}

extension HolderInterface.Map.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(runs) }
}

extension HolderInterface.MapChanges.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(changes: runs, isSnapshot: snapshot) }
}

extension HolderInterface.Convert.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(self) }
}

extension HolderInterface.Conversions.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(self) }
}

extension HolderInterface.Verify.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(self) }
}

extension HolderInterface.PlanStop.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(self) }
}

extension HolderInterface.Stop.Reply: HolderReply {
    func check(_ claims: HolderClaims) throws(Refusal) { try claims.check(self) }
}
