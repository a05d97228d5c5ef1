internal import ControlInterface
internal import HostVMs
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// What tdxd knows and does, apart from its socket. Methods that block belong on worker threads; the event loop only
/// hands work to them.
final class Manager: Sendable {
    /// What is decided under one lock, so that a name, a key id and memory are taken together or not at all.
    struct Core: Sendable {
        var registry = Registry()
        var ledger: KeyLedger
        /// Key: the TD's id. Holders that may still have something of a TD.
        var holders: [String: LiveHolder] = [:]
        var configuration: TDXDConfiguration
        /// The backend that the host was last seen to offer.
        private(set) var backend: Backend?
        /// No new TD: the host is being emptied.
        var drain: DrainRecord?
        /// Why it is not known whether the host is being emptied. No new TD then, and no TD is ended because of it.
        var drainFlaw: String?
        /// Creations that wait for what the host lacks.
        var queue = AdmissionQueue()
        /// No new TD: the daemon is about to end.
        var isLeaving = false

        init(ledger: KeyLedger, configuration: TDXDConfiguration) {
            self.ledger = ledger
            self.configuration = configuration
        }

        /// The host offers that. Where key ids are the kernel's, the number of emulated ones does not apply to them.
        mutating func found(_ backend: Backend) {
            self.backend = backend
            if backend == .tdx, Manager.hostKeyCapacity == nil { ledger.forgetCapacity() }
        }
    }

    let core: Mutex<Core>
    let places: Places
    let launcher: HolderLauncher
    /// Where certificates and records are written.
    let disk: StateDisk
    let events = VMEventLog()
    /// Ends that are under way.
    let endBooks = EndBooks()
    let census = Mutex(VMCensus())
    let descriptors: DescriptorStore
    /// Nil where no control group is delegated.
    let groups: HolderGroups?
    /// For looks into other processes, which the fence would hide.
    let procReader: UnsandboxedProcReader
    /// Where firmware may lie, as it was when tdxd started.
    let firmwarePlaces: FirmwarePlaces
    let loop: EventLoop
    let log: Logger
    let ownUID: UInt32
    /// Conversions whose answers the event loop waits for.
    let forwarded = Atomic(0)
    /// For calls that only look.
    let lookers = WorkerPool(name: "look", limit: 16)
    /// For whole maps, and for what has changed of them: each may be tens of megabytes while it is read and sent. Waiting for a
    /// change takes no thread.
    let maps = WorkerPool(name: "map", limit: 4)
    /// Calls that wait for a change of a map.
    let mapWatches: MapWatches
    /// The host's report.
    let probe = SharedProbe()
    /// A self-test is under way.
    let isSelfTesting = Atomic(false)
    /// For inventories, an answer at a time.
    let inventories = WorkerPool(name: "inventory", limit: 8)
    /// For creations, also while they wait to be let in; as many again as may wait can be built.
    let creators = WorkerPool(name: "create", limit: 2 * AdmissionQueue.limit)
    /// For other calls that change something or take long. With those above operators and observers together never have all of a
    /// holder's 64 connections.
    let workers = WorkerPool(name: "work", limit: 48)
    /// For the log of conversions.
    let lines: DeferredLines

    init(
        places: Places, launcher: HolderLauncher, configuration: TDXDConfiguration, procReader: UnsandboxedProcReader,
        loop: EventLoop,
        log: Logger, groups: HolderGroups? = nil, ownUID: UInt32 = CurrentProcess.effectiveUID
    ) {
        self.places = places
        disk = StateDisk([places.stateDirectory, places.certificates, places.holders])
        self.launcher = launcher
        self.procReader = procReader
        self.loop = loop
        self.log = log
        self.ownUID = ownUID
        firmwarePlaces = FirmwarePlaces(configuration.service.firmwareDirectories)
        descriptors = DescriptorStore(log: log)
        mapWatches = MapWatches(loop)
        self.groups = groups
        lines = DeferredLines(loop, workers)
        let capacity = Self.hostKeyCapacity ?? Int(configuration.backends.emulatedKeyIDs)
        core = Mutex(Core(ledger: KeyLedger(capacity: capacity), configuration: configuration))
    }

    /// The misc controller's capacity of a host with TDX; nil on others, and where the root group's cgroup.subtree_control
    /// has no “misc”.
    static var hostKeyCapacity: Int? {
        guard let tdx = try? MiscResource.capacities().first(where: { $0.name == "tdx" }), tdx.amount > 0 else {
            return nil
        }
        return min(Int(clamping: tdx.amount), 1 << 12)
    }

    /// Certificates, as many and as old as are configured at this moment.
    var store: CertificateStore {
        let service = configuration.service
        return CertificateStore(
            directory: places.certificates, retained: service.certificatesKept,
            days: service.certificateDays.map { Int($0) })
    }

    /// Names of certificates that stay as long as their TDs are listed.
    var listedCertificates: Set<String> {
        core.withLock { core in
            Set(
                core.registry.domains.values.map {
                    CertificateStore.fileName(name: $0.record.name, id: $0.record.id)
                })
        }
    }

    var configuration: TDXDConfiguration { core.withLock { $0.configuration } }

    /// Ends of TDs, builds and conversions that are under way, or not in the log yet.
    var workUnderWay: Int {
        workers.count + creators.count + ends.underWay + forwarded.load(ordering: .relaxed) + (lines.isUnderWay ? 1 : 0)
    }

    /// What a TD that is being built is reported with before its holder has reported.
    static func expectedBackend(_ core: Core) -> Backend {
        if let backend = core.backend { return backend }
        return Backend(rawValue: core.configuration.backends.backend.rawValue) ?? .memfd
    }

    /// For STATUS= and the log.
    var summary: String {
        core.withLock { core in
            let states = core.registry.domains.values.map(\.state)
            let running = states.count { $0 == .runnable }
            let other = states.count - running
            let keys = "\(core.ledger.taken) of \(core.ledger.capacityText) key ids taken"
            let drain =
                core.drain.map { ", draining for \($0.purpose.words)" }
                ?? (core.drainFlaw == nil ? "" : ", no new TDs: drain.json cannot be read")
            return "\(running) TDs running" + (other > 0 ? ", \(other) in other states" : "") + ", \(keys)" + drain
        }
    }

    func pool(_ pool: CallPool) -> WorkerPool {
        switch pool {
        case .look: lookers
        case .map: maps
        case .create: creators
        case .work: workers
        }
    }

    // MARK: Durable records

    func write(_ record: DomainRecord, in directory: String) throws(ControlError) {
        do {
            try DurableFile.write(try record.encoded(), name: Places.record, in: directory, mode: 0o600)
        } catch {
            throw .holderFailed(name: record.name, reason: "its record cannot be written: \(error)")
        }
    }

    // MARK: Duplicates

    /// Makes duplicates of a TD's backing files ours, and the next tdxd's.
    func hold(_ backing: Backing, of holder: LiveHolder) {
        if let former = holder.backing, former.identities != backing.identities { descriptors.drop(holder.id) }
        holder.backing = backing
        descriptors.keep(backing, of: holder.id)
        holder.link.reserveConnections()
    }

    /// Lets every duplicate of a TD's backing files go.
    func letGo(_ holder: LiveHolder) {
        holder.closeRanges()
        guard let backing = holder.backing else { return }
        descriptors.drop(holder.id)
        backing.close()
    }

    /// Blocks this thread.
    static func sleep(milliseconds: UInt64) { CurrentThread.sleep(milliseconds: milliseconds) }

    // MARK: Watching

    /// Notices the end of a holder's process at once. From any thread.
    func watch(_ holder: LiveHolder) {
        guard let process = holder.process else { return }
        loop.perform { [self] in
            var watch: EventLoop.Watch?
            // The watch keeps the holder, and with it the pidfd, until the process has ended.
            watch = try? loop.watch(process.pidfd, for: .readable) { [self] _ in
                watch?.cancel()
                watch = nil
                noteEnd(of: holder, process, until: .now + HolderProcess.patience)
            }
        }
    }

    /// A holder's process has ended; how, the launcher reports in a moment. On the loop, which does not wait for it.
    private func noteEnd(of holder: LiveHolder, _ process: HolderProcess, until deadline: MonotonicInstant) {
        if let exit = process.exitIfKnown(evenUnknown: MonotonicInstant.now >= deadline) {
            return ends.holderEnded(holder, exit)
        }
        loop.schedule(after: .milliseconds(2)) { [self] in noteEnd(of: holder, process, until: deadline) }
    }
}
