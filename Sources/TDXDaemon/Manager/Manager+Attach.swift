internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import SystemPackage
internal import Terms
internal import Varlink

/// Holders that tdxd has not started: a process that owns a TD's VM itself attaches it. What it reports is a claim; what is proven is
/// read from the host.
extension Manager {
    /// How long a process may take to answer the first calls on its connections.
    private static let attachPatience = Duration.seconds(10)

    /// - Throws: as `attach` below; `invalidField` for descriptors that are none or too many.
    func attach(_ call: ManagerCall<ManagerInterface.Attach>) throws(ControlError) -> ManagerInterface.Attach.Reply {
        let descriptors = call.call.receivedDescriptors
        let limit = ManagerInterface.Attach.connections
        guard limit.contains(descriptors.count) else {
            throw .invalidField(
                field: "descriptors", value: "\(descriptors.count)",
                limit: "\(limit.lowerBound) to \(limit.upperBound) connected sockets")
        }
        var sockets: [RetainedDescriptor] = []
        while let descriptor = descriptors.takeFirst() { sockets.append(RetainedDescriptor(descriptor)) }
        let request = CreateRequest(name: call.name, memoryBytes: call.memoryBytes, vcpus: call.vcpus)
        return try attach(request, id: call.id, sockets, of: call.call.peer)
    }

    /// Lets a TD in that the caller makes or has made, or takes further connections of one that was let in. Blocks.
    ///
    /// - Parameters:
    ///   - request: what the TD takes of the host.
    ///   - id: nil for a TD that is new to tdxd.
    ///   - sockets: connections that the caller has made; at their other ends it serves io.tdxd.Holder.
    /// - Throws: what `create` refuses; `invalidField` for sockets that are not the caller's; `noSuchDomain` for an id that is not
    ///   one of an attached TD of the same process. Nothing is taken then.
    func attach(
        _ request: CreateRequest, id: String?, _ sockets: [RetainedDescriptor], of peer: PeerCredentials
    ) throws(ControlError) -> ManagerInterface.Attach.Reply {
        var connections: [VarlinkClient] = []
        for socket in sockets { connections.append(try Self.connection(socket, of: peer)) }
        let holder =
            if let id {
                try returning(id, request, connections, peer)
            } else {
                try admitAttached(request, connections, of: peer)
            }
        return try settleAttached(holder)
    }

    /// - Throws: `invalidField` unless the caller itself has made the socket.
    private static func connection(
        _ socket: RetainedDescriptor, of peer: PeerCredentials
    ) throws(ControlError) -> VarlinkClient {
        do throws(LinuxError) {
            let other = try UnixSocket.peer(of: socket.descriptor)
            guard other.pid == peer.pid, other.uid == peer.uid else {
                throw LinuxError(
                    "getsockopt(SO_PEERCRED)", .permissionDenied,
                    detail: "made by process \(other.pid) of user \(other.uid)")
            }
            try UnixSocket.makeNonBlocking(socket.descriptor)
            return VarlinkClient(connected: try socket.duplicate(), limits: HolderLink.limits)
        } catch {
            throw .invalidField(
                field: "descriptors", value: "\(error)", limit: "stream sockets that process \(peer.pid) has made")
        }
    }

    private func admitAttached(
        _ request: CreateRequest, _ connections: [VarlinkClient], of peer: PeerCredentials
    ) throws(ControlError) -> LiveHolder {
        try Self.check(request, limits: configuration.limits)
        guard let descriptor = peer.pidfd, let start = Self.startTime(of: peer.pid) else {
            throw .tryAgain(reason: "the process \(peer.pid) cannot be held by a pidfd")
        }
        let handle: ProcessHandle
        do throws(LinuxError) { handle = ProcessHandle(pid: peer.pid, taking: try descriptor.duplicate()) } catch {
            throw .tryAgain(reason: "\(error)")
        }
        let process = HolderProcess(handle, isAttached: true)
        guard process.exitIfEnded() == nil else { throw .tryAgain(reason: "process \(peer.pid) has ended") }
        var record = try admit(request, firmware: .zero, for: peer.uid, isLeft: { false }, progress: { _ in })
        record.kind = .attached
        record.holderPID = peer.pid
        record.holderStart = start
        let holder = LiveHolder(
            record, directory: places.holder(record.id), process: process,
            link: HolderLink(record, .given(GivenConnections())))
        do throws(ControlError) {
            do throws(LinuxError) { try DirectoryTree.make(holder.directory, mode: 0o700) } catch {
                throw .holderFailed(name: record.name, reason: "\(error)")
            }
            try write(record, in: holder.directory)
        } catch {
            abandon(record, holder, reason: "\(error)")
            throw error
        }
        holder.link.add(connections)
        let admitted = record
        core.withLock { core in
            core.registry.update(id: admitted.id, record: admitted)
            core.holders[admitted.id] = holder
        }
        watch(holder)
        log.info(
            "a process attaches a TD",
            metadata: [
                "td": "\(record.name)", "id": "\(record.id)", "pid": "\(peer.pid)", "uid": "\(peer.uid)",
                "program": "\(peer.programName ?? "unknown")", "memory": "\(request.memoryBytes.bytes)",
            ])
        return holder
    }

    /// An attached TD whose process brings further connections.
    private func returning(
        _ id: String, _ request: CreateRequest, _ connections: [VarlinkClient], _ peer: PeerCredentials
    ) throws(ControlError) -> LiveHolder {
        let (found, holder) = core.withLock { ($0.registry[id], $0.holders[id]) }
        guard let domain = found, let holder, let process = holder.process, domain.record.isAttached,
            process.pid == peer.pid, process.exitIfEnded() == nil, domain.record.ownerUID == peer.uid
        else { throw .noSuchDomain(name: id.utf8.count == 32 ? id : Refusal.quoting(id)) }
        guard domain.record.name == request.name.rawValue,
            domain.record.memoryBytes == request.memoryBytes.bytes.rawValue
        else {
            throw .invalidField(
                field: "name, memory_bytes", value: "\(request.name), \(request.memoryBytes)",
                limit: "\(domain.record.name), \(domain.record.memoryBytes), as it was attached")
        }
        holder.link.add(connections)
        return holder
    }

    /// Asks the process what of the TD is there, and takes over what is.
    private func settleAttached(_ holder: LiveHolder) throws(ControlError) -> ManagerInterface.Attach.Reply {
        guard let record = core.withLock({ $0.registry[holder.id] })?.record else {
            throw .noSuchDomain(name: holder.id)
        }
        do throws(ControlError) {
            let patience = min(configuration.deadlines.holderReply, Self.attachPatience)
            let description = try holder.link.describe(timeout: patience)
            guard description.pid == holder.process?.pid, description.memoryBytes <= record.memoryBytes else {
                throw .holderFailed(
                    name: record.name,
                    reason: "it describes process \(description.pid) with \(description.memoryBytes) bytes")
            }
            if description.state == .runnable { try takeAttached(description, record, holder, patience) }
        } catch {
            // Of a TD that was never made nothing is kept.
            if record.backend == nil { abandon(record, holder, reason: "\(error)") }
            throw error
        }
        let state = core.withLock { $0.registry[holder.id]?.state } ?? .failed
        return ManagerInterface.Attach.Reply(id: record.id, keyID: record.keyID, state: state)
    }

    private func takeAttached(
        _ description: HolderInterface.Description, _ record: DomainRecord, _ holder: LiveHolder, _ patience: Duration
    ) throws(ControlError) {
        let state = core.withLock { $0.registry[holder.id]?.state }
        if state == .building {
            _ = try take(description, try holder.link.backing(timeout: patience), record, holder)
        } else if state == .runnable {
            adoptBacking(of: holder, description)
            adoptPages(of: holder)
            let figures = TrustDomain(description, record: record)
            core.withLock { $0.registry.refresh(id: record.id, figures: figures) }
        }
    }

    // MARK: After a restart

    /// The process of an attached TD; nil when it has ended, or its number is another's by now.
    func attachedProcess(_ record: DomainRecord) -> HolderProcess? {
        guard let pid = record.holderPID, let start = record.holderStart, let handle = try? ProcessHandle(pid: pid)
        else { return nil }
        let process = HolderProcess(handle, isAttached: true)
        // The pidfd is open: from now on the number is that process's.
        guard Self.startTime(of: pid) == start, process.exitIfEnded() == nil else { return nil }
        return process
    }

    // MARK: What is asked of it

    /// What is the process's own to do, and not tdxd's.
    /// - Throws: `notPermitted` for an attached TD.
    func refuseIfAttached(_ record: DomainRecord, _ operation: String) throws(ControlError) {
        guard record.isAttached else { return }
        throw .notPermitted(
            needed: "process \(record.holderPID ?? 0) itself, which owns the TD's memory",
            reason: "“\(record.name)” is attached: tdxd may not \(operation) it from outside")
    }

    /// An attached process has ended before its TD was made: nothing of it is left.
    func dropAttached(_ holder: LiveHolder, _ exit: String) {
        guard let domain = core.withLock({ $0.registry[holder.id] }), domain.record.isAttached,
            domain.record.backend == nil
        else { return }
        abandon(domain.record, holder, reason: exit)
        log.notice(
            "an attached process has ended before its TD was made",
            metadata: ["td": "\(domain.record.name)", "id": "\(holder.id)", "reason": "\(exit)"])
    }

    /// When a process was started, in clock ticks since boot; nil when it cannot be read. Field 22 of proc_pid_stat(5).
    static func startTime(of pid: Int32) -> UInt64? {
        guard let line = try? TextFile.read("/proc/\(pid)/stat", limit: 4096), let end = line.lastIndex(of: ")") else {
            return nil
        }
        let fields = line[line.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }
}
