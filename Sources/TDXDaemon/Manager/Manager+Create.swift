internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import Varlink

extension Manager {
    /// - Throws: as `create` below; `invalidField` for descriptors that are not one image with its name.
    func create(
        _ call: ManagerCall<ManagerInterface.Create>
    ) throws(ControlError) -> ManagerInterface.Create.Reply {
        let descriptors = call.call.receivedDescriptors
        let count = descriptors.count
        guard count == 0 || count == 1 && call.firmware != nil else {
            throw .invalidField(
                field: "firmware", value: "\(count) descriptors",
                limit: "the image's descriptor alone, with its name, or none")
        }
        var image: RetainedDescriptor?
        if let descriptor = descriptors.takeFirst() { image = RetainedDescriptor(descriptor) }
        var meter = ProgressMeter()
        let domain = try create(
            call.parameters, image: image, for: call.caller.uid, isLeft: { call.call.isCancelled }
        ) { call.continues(with: .init(progress: meter.completed($0))) }
        return .init(domain: domain)
    }

    /// Creates, loads and finalizes a TD. Blocks.
    ///
    /// - Parameters:
    ///   - image: the firmware, where the client has opened it; otherwise tdxd opens what the request names.
    ///   - uid: the client's, who becomes the TD's owner.
    ///   - isLeft: the client no longer waits for the TD; asked now and then.
    /// - Throws: a refusal; nothing of the TD is left then.
    func create(
        _ request: CreateRequest, image: RetainedDescriptor? = nil, for uid: UInt32, isLeft: () -> Bool = { false },
        progress: (Progress) -> Void
    ) throws(ControlError) -> TrustDomain {
        let configuration = configuration
        try checkLauncher(request.name.rawValue)
        try Self.check(request, limits: configuration.limits)
        if let numa = request.numa { try HostNodes.check(numa) }
        let firmware = try request.firmware.map(\.rawValue).map { path throws(ControlError) in
            if let image {
                try FirmwareFile.check(image.descriptor, path: path, within: firmwarePlaces)
                return image
            }
            return RetainedDescriptor(
                try FirmwareFile.open(path, for: uid, ownUID: ownUID, within: firmwarePlaces))
        }
        let size = try firmware.map { image throws(ControlError) in
            try FirmwareFile.size(of: image, path: request.firmware?.rawValue ?? "")
        }
        let record = try admit(request, firmware: size ?? .zero, for: uid, isLeft: isLeft, progress: progress)
        // It may have waited for days: what holds for it is what holds now.
        let settings = self.configuration
        log.info(
            "creating a TD",
            metadata: ["td": "\(record.name)", "id": "\(record.id)", "memory": "\(request.memoryBytes.bytes)"])

        let directory = places.holder(record.id)
        let holder: LiveHolder
        do throws(ControlError) {
            progress(Progress(phase: "start", doneBytes: 0, totalBytes: 0, detail: "starting a holder"))
            holder = try start(record, in: directory, settings)
        } catch {
            try? DirectoryTree.remove(directory)
            core.withLock { core in
                core.ledger.giveBack(holder: record.id)
                core.registry.forget(id: record.id)
            }
            log.error("a TD could not be created", metadata: error.fields(["td": "\(record.name)"]))
            throw error
        }
        do throws(ControlError) {
            return try build(record, request, firmware, on: holder, configuration: settings) { step in
                // Memory that no client waits for any more is not worth its time, and goes with its process; a quick build ends
                // by itself.
                if request.preallocate == true || request.prefault == true, isLeft() { holder.process?.kill() }
                progress(step)
            }
        } catch {
            log.error("a TD could not be built", metadata: error.fields(["td": "\(record.name)"]))
            abandon(record, holder, reason: "\(error)")
            throw error
        }
    }

    static func check(_ request: CreateRequest, limits: TDXDConfiguration.Limits) throws(ControlError) {
        guard request.memoryBytes.bytes <= limits.trustDomainMemory else {
            throw .invalidField(
                field: "memory_bytes", value: "\(request.memoryBytes)",
                limit: "at most \(limits.trustDomainMemory.rawValue), as configured for one TD")
        }
        guard request.vcpus.count <= limits.trustDomainVCPUs else {
            throw .invalidField(
                field: "vcpus", value: "\(request.vcpus)",
                limit: "at most \(limits.trustDomainVCPUs), as configured for one TD")
        }
    }

    /// - Throws: `holderFailed` once no holder can be started any more.
    func checkLauncher(_ name: String) throws(ControlError) {
        guard launcher.hasEnded else { return }
        throw .holderFailed(name: name, reason: "\(HolderLauncher.Failure.ended)")
    }

    private func start(
        _ record: DomainRecord, in directory: String, _ configuration: TDXDConfiguration
    ) throws(ControlError) -> LiveHolder {
        do throws(LinuxError) {
            try DirectoryTree.make(directory, mode: 0o700)
        } catch {
            throw .holderFailed(name: record.name, reason: "\(error)")
        }
        try write(record, in: directory)
        do throws(HolderLauncher.Failure) {
            let process = try launcher.startHolder(id: record.id, configuration)
            groups?.enter(process.pid, record.name)
            return LiveHolder(record, directory: directory, process: process)
        } catch {
            throw .holderFailed(name: record.name, reason: "it cannot be started: \(error)")
        }
    }

    private func build(
        _ reserved: DomainRecord, _ request: CreateRequest, _ firmware: RetainedDescriptor?, on holder: LiveHolder,
        configuration: TDXDConfiguration, progress: (Progress) -> Void
    ) throws(ControlError) -> TrustDomain {
        guard let process = holder.process else { preconditionFailure("a started holder has a process") }
        var record = reserved
        record.holderPID = process.pid
        core.withLock { core in
            core.holders[record.id] = holder
            core.registry.update(id: record.id, record: record)
        }
        watch(holder)
        try write(record, in: holder.directory)
        try holder.link.waitUntilServing(process, limit: configuration.deadlines.holderStart)
        let parameters = HolderInterface.Build.Parameters(
            request: request,
            reservation: Reservation(
                id: TrustDomainID(unchecked: record.id), keyID: record.keyID, ownerUID: record.ownerUID),
            settings: HolderSettings(configuration))
        let built = try holder.link.build(
            parameters, firmware: firmware, silence: configuration.deadlines.build, progress: progress)
        try checkBackend(built.description.backend, of: record, configuration)
        holder.pages = built.figures
        return try take(built.description, built.backing, record, holder)
    }

    /// - Throws: `holderFailed` where `auto` chose a weaker backend than TDs of this host had before.
    private func checkBackend(
        _ backend: Backend, of record: DomainRecord, _ configuration: TDXDConfiguration
    ) throws(ControlError) {
        guard configuration.backends.backend == .auto else { return }
        let directory = places.stateDirectory
        // Creations that end at the same moment would write the same file beside it.
        try Self.backendRecordLock.withLock { (_: inout sending Void) throws(ControlError) in
            let reading = BackendRecord.read(in: directory)
            if let reason = BackendRecord.refusal(of: backend, after: reading, in: directory) {
                throw .holderFailed(name: record.name, reason: reason)
            }
            if case .record(let known) = reading, known.backend == backend { return }
            do {
                try BackendRecord(backend: backend, since: WallTime.now.rfc3339).write(in: directory)
            } catch {
                throw .holderFailed(name: record.name, reason: "its backend cannot be noted: \(error)")
            }
        }
    }

    /// Held while `backend.json` is read and written.
    private static let backendRecordLock = Mutex<Void>(())

    /// A TD that is built becomes ours: duplicates, the record on disk, the registry.
    func take(
        _ description: HolderInterface.Description, _ backing: Backing, _ built: DomainRecord, _ holder: LiveHolder
    ) throws(ControlError) -> TrustDomain {
        try checkFiles(backing, of: built)
        hold(backing, of: holder)
        adoptPages(of: holder)
        let record = completed(built, description, backing)
        try write(record, in: holder.directory)
        var figures = TrustDomain(description, record: record)
        figures.state = .runnable
        core.withLock { core in
            core.found(description.backend)
            core.registry.setBuilt(id: record.id, record: record, figures: figures)
        }
        guard ends.handle(.built, record.id, inline: true) == [.useKey] else {
            throw .holderFailed(name: record.name, reason: holder.process?.exitIfEnded() ?? "its process has ended")
        }
        log.info(
            "a TD is runnable",
            metadata: [
                "td": "\(record.name)", "id": "\(record.id)", "backend": "\(description.backend.rawValue)",
                "holder_pid": "\(description.pid)", "mrtd": "\(description.mrtd ?? "")",
            ])
        return figures
    }

    /// - Throws: `holderFailed` for a file that another TD has: it would be emptied with the first of them that ends.
    func checkFiles(_ backing: Backing, of record: DomainRecord) throws(ControlError) {
        let files = backing.identities
        let other = core.withLock { core in
            core.registry.domains.values.first { domain in
                domain.record.id != record.id
                    && domain.record.backing.contains {
                        files.contains(FileIdentity(device: $0.device, inode: $0.inode))
                    }
            }
        }
        guard let other else { return }
        throw .holderFailed(name: record.name, reason: "it gives a file of “\(other.record.name)” for its own memory")
    }

    /// The record with what is known once the TD is built.
    func completed(
        _ record: DomainRecord, _ description: HolderInterface.Description, _ backing: Backing
    ) -> DomainRecord {
        var record = record
        record.backend = description.backend
        record.holderPID = description.pid
        record.backing = backing.files.map {
            DomainRecord.BackingIdentity(device: $0.identity.device, inode: $0.identity.inode)
        }
        let creators = Set(record.vmCreators + events.creators(in: description.pid))
        // One creation that was seen shows that events reach us; any of the threads may have made the other VMs.
        record.vmCreators =
            creators.isEmpty
            ? [] : creators.union(procReader.perform { VMEventLog.threads(of: description.pid) }).sorted()
        return record
    }

    /// A TD that was not built leaves nothing: no process, no memory, no directory, no key id, no name. Blocks until its process
    /// has ended.
    func abandon(_ record: DomainRecord, _ holder: LiveHolder, reason: String) {
        letGo(holder)
        core.withLock { core in if core.holders[record.id] == nil { core.holders[record.id] = holder } }
        var isGone = true
        // An attached process may have other work than the TD that it did not make.
        if let process = holder.process, !process.isAttached {
            // It has nothing left to do: a client that waits for the refusal need not wait for its idle time.
            process.kill()
            // Else it may still hold memory and, on hardware, the key id.
            isGone = process.waitForEnd(Ends.killTimeout) != nil
        }
        ends.handle(.buildAbandoned(holderIsGone: isGone), record.id, inline: true)
    }
}
