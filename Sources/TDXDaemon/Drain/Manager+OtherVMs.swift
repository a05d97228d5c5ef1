internal import ControlInterface
internal import HostVMs
internal import LinuxSystem
internal import ServiceSupport
internal import Synchronization

/// VMs of the host that tdxd neither started nor manages.
extension Manager {
    /// An announcement of KVM's. On the event loop.
    /// - Parameter process: of the creating thread; nil where it is not known.
    func note(_ event: VMEvent, process: Int32?) {
        events.note(event, process: process)
        census.withLock { $0.note(event, process: process) }
    }

    func noteLostAnnouncements() {
        events.noteLoss()
        census.withLock { $0.noteLoss() }
    }

    /// Looks now. Blocks for one look through /proc. Nil where the configuration leaves other VMs out.
    func otherVMs() -> OtherVMs? {
        let (isCounted, backend, holders, files, keysTaken) = core.withLock { core in
            (
                core.configuration.service.otherVMs == .count, Self.expectedBackend(core),
                core.holders.values.compactMap { $0.process?.pid },
                Set(core.holders.values.compactMap { $0.backing?.identities }.joined()), core.ledger.taken
            )
        }
        guard isCounted else { return nil }
        let own = Set(holders + [CurrentProcess.pid] + [launcher.pid].compactMap { $0 })
        // TDs that were there before this tdxd was started have VMs whose creation it did not see.
        let known = backend == .memfd ? 0 : holders.count
        return OtherVMs(
            look: procReader.perform { (try? HostVMs.look(excluding: own))?.withoutHolders(ofFilesAmong: files) },
            census: census.withLock { $0.others(own: own, known: known) },
            othersKeyIDs: backend == .tdx ? Self.keyIDsOfOthers(own: keysTaken) : nil)
    }

    /// misc.current of the whole host, less what is charged to tdxd's TDs; nil where it cannot be read.
    private static func keyIDsOfOthers(own: Int) -> UInt64? {
        guard case .host(let charged) = KeyCharge.read(.tdx, group: nil) else { return nil }
        return charged > UInt64(own) ? charged - UInt64(own) : 0
    }
}
