internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// What is reported of a TD. Nothing here changes it, but for what is double-resident.
extension Holder {
    func describe() throws(ControlError) -> HolderInterface.Description {
        let now = state.withLock { $0 }
        let domain = now.built?.domain.describe()
        let backend = host.backend
        return HolderInterface.Description(
            name: now.order?.name ?? "", id: now.order?.reservation.id.rawValue ?? "", state: now.lifecycle.state,
            reason: now.lifecycle.reason, backend: backend,
            memoryBytes: now.order?.request.memoryBytes.bytes.rawValue ?? 0,
            privateBytes: domain?.pages[.private].bytes.rawValue ?? 0,
            sharedBytes: domain?.pages[.shared].bytes.rawValue ?? 0,
            convertingBytes: domain?.pages.converting.bytes.rawValue ?? 0,
            residentPrivateBytes: domain?.resident?.private.rawValue,
            residentSharedBytes: domain?.resident?.shared.rawValue, vcpus: now.order?.request.vcpus.count ?? 0,
            keyID: now.built?.keyID, pid: CurrentProcess.pid, mrtd: now.built?.mrtd,
            firmware: now.order?.request.firmware?.rawValue,
            createdAt: now.createdAt, ownerUID: now.order?.reservation.ownerUID ?? 0,
            ending: now.ending,
            numa: now.built?.placement, lastWill: lastWill)
    }

    func map() throws(ControlError) -> [MemoryRun] {
        try runnable("Map").domain.runs().map { MemoryRun($0) }
    }

    /// What changed behind `sequence`; nil when nothing did. The whole map without one, or where it lies too far behind.
    func mapChanges(since sequence: UInt64?) throws(ControlError) -> HolderInterface.MapChanges.Reply? {
        let memory = try runnable("MapChanges").domain.memory
        if let sequence, case .changes(let changes) = memory.changes(since: sequence) {
            let told = changes.prefix(HolderInterface.MapChanges.mostChanges)
            guard let last = told.last else { return nil }
            return .init(
                sequence: Int64(clamping: last.sequence), snapshot: false, runs: told.map { MemoryRun($0.run) })
        }
        let now = memory.numberedRuns()
        return .init(sequence: Int64(clamping: now.sequence), snapshot: true, runs: now.runs.map { MemoryRun($0) })
    }

    /// - Parameter last: how many are told one by one, 0 to 1,000.
    func conversions(last: Int) throws(ControlError) -> HolderInterface.Conversions.Reply {
        let observer = try runnable("Conversions").domain.memory.observer
        let clocks = ClockPair()
        return HolderInterface.Conversions.Reply(observer.report(last: last), clocks)
    }

    /// The backing files with a duplicate of each, in the same order.
    func backing() throws(ControlError) -> (files: [HolderInterface.BackingFile], descriptors: [RetainedDescriptor]) {
        let now = state.withLock { $0 }
        do throws(OperationRefused) { try now.lifecycle.useBacking("GetBacking") } catch {
            throw ControlError(error, name: now.order?.name ?? "")
        }
        guard let built = now.built else {
            throw .holderFailed(name: now.order?.name ?? "", reason: "it has no TD whose files could be given")
        }
        var files: [HolderInterface.BackingFile] = []
        var descriptors: [RetainedDescriptor] = []
        var failure: LinuxError?
        do {
            try built.domain.forEachBackingFile { file in
                do throws(LinuxError) {
                    descriptors.append(try RetainedDescriptor(duplicating: file.descriptor.rawValue))
                } catch {
                    failure = failure ?? error
                }
                files.append(
                    HolderInterface.BackingFile(
                        kind: file.side == .private ? .private : .shared, gpa: file.range.start.rawValue,
                        bytes: file.range.size.rawValue, inode: file.inode))
            }
        } catch {
            throw ControlError(error, name: name)
        }
        if let failure { throw ControlError(failure) }
        return (files, descriptors)
    }

    /// Pages by state, to be read without asking.
    func figures() throws(ControlError) -> RetainedDescriptor {
        let memory = try runnable("GetFigures").domain.memory
        do throws(LinuxError) {
            return RetainedDescriptor(try memory.publishedCounts().duplicateDescriptor())
        } catch {
            throw ControlError(error)
        }
    }

    /// The ranges that are private or in transition at one moment, in a sealed file.
    func privateRanges() throws(ControlError) -> (sequence: UInt64, file: RetainedDescriptor) {
        let memory = try runnable("GetPrivateRanges").domain.memory
        do throws(LinuxError) {
            let ranges = try memory.writePrivateRanges()
            return (ranges.sequence, RetainedDescriptor(ranges.file))
        } catch {
            throw ControlError(error)
        }
    }

    /// What the host pays for twice; with `reclaim`, what it did pay.
    func verify(reclaim: Bool) throws(ControlError) -> HolderInterface.Verify.Reply {
        let built = try runnable("Verify")
        let start = MonotonicInstant.now
        let found: MemoryVerification
        do throws(TrustDomainError) {
            found = try built.domain.verify(reclaiming: reclaim)
        } catch {
            throw ControlError(error, name: name)
        }
        return HolderInterface.Verify.Reply(
            checkedBytes: found.checked.rawValue,
            ranges: found.doubles.map {
                ControlInterface.DoubleResidency(
                    gpa: $0.range.start.rawValue, bytes: $0.range.size.rawValue,
                    wasted: $0.wasted == .private ? .private : .shared, wastedBytes: $0.bytes.rawValue)
            }, milliseconds: MonotonicInstant.now.milliseconds(since: start))
    }
}
