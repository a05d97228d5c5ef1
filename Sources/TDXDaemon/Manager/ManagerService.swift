internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import ServiceSupport
internal import Synchronization
internal import Varlink

/// io.tdxd.Manager on the wire: who may call, what came, and which thread does it. Handlers run on the event loop and
/// only decide.
final class ManagerService: Sendable {
    private let manager: Manager
    private let refusals = Mutex(RefusalLog())
    /// Inventories that are being read, by user.
    private let readers = Mutex<[UInt32: Int]>([:])
    private static let inventoriesPerUser = 4

    init(_ manager: Manager) { self.manager = manager }

    var handlers: [String: VarlinkServer.Handler] {
        [
            "Check": { self.check($0) },
            "List": { self.list($0) },
            "Show": { self.show($0) },
            "Map": { self.map($0) },
            "MapChanges": { self.mapChanges($0) },
            "Conversions": { self.conversions($0) },
            "Create": { self.create($0) },
            "Attach": { self.attach($0) },
            "Convert": { self.convert($0) },
            "Stop": { self.stop($0) },
            "Reclaim": { self.reclaim($0) },
            "PlanStop": { self.planStop($0) },
            "ListCertificates": { self.listCertificates($0) },
            "GetCertificate": { self.getCertificate($0) },
            "GetKeys": { self.getKeys($0) },
            "Verify": { self.verify($0) },
            "SelfTest": { self.selfTest($0) },
            "Drain": { self.drain($0) },
            "GetDrain": { self.getDrain($0) },
            "Undrain": { self.undrain($0) },
            "CheckKexec": { self.checkKexec($0) },
            "Inventory": { self.inventory($0) },
        ]
    }

    // MARK: Calls that look

    private func check(_ call: VarlinkCall) {
        guard permitted(call) != nil else { return }
        manager.check { answer in
            switch answer {
            case .success(let report): call.reply(report)
            case .failure(let error): call.fail(error.reply(on: .manager))
            }
        }
    }

    private func list(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in
            ManagerInterface.List.Reply(domains: manager.list())
        }
    }

    private func show(_ call: VarlinkCall) {
        answer(call, CallParameters.Name.self, on: manager.lookers) {
            manager, parameters throws(ControlError) in
            ManagerInterface.Show.Reply(domain: try manager.show(try DomainName(validating: parameters.name)))
        }
    }

    private func map(_ call: VarlinkCall) {
        answer(call, CallParameters.Name.self, on: manager.maps) {
            manager, parameters throws(ControlError) in
            try manager.map(try DomainName(validating: parameters.name))
        }
    }

    private func mapChanges(_ call: VarlinkCall) {
        guard let caller = permitted(call) else { return }
        do throws(VarlinkErrorReply) {
            let parameters = try call.parameters(as: ManagerInterface.MapChanges.Parameters.self)
            let (name, wait) = try refusing { () throws(ControlError) in
                _ = try MapFollowing.checkedSequence(parameters.since)
                return (
                    try DomainName(validating: parameters.name),
                    try MapFollowing.checkedWait(parameters.waitMilliseconds)
                )
            }
            submit(call, for: caller, to: manager.maps) { [self] in
                follow(call, caller, name, since: parameters.since, until: .now + wait)
            }
        } catch {
            call.fail(error)
        }
    }

    /// Answers with what there is, or waits without a thread until there may be something, and looks again.
    private func follow(
        _ call: VarlinkCall, _ caller: Caller, _ name: DomainName, since: Int64?, until deadline: MonotonicInstant
    ) {
        guard !call.isCancelled else { return }
        do throws(ControlError) {
            let (reply, holder) = try manager.mapChanges(name, since: since)
            guard let since, reply.runs.isEmpty, !reply.snapshot, deadline > .now else { return call.reply(reply) }
            let silence = manager.configuration.deadlines.holderReply
            manager.loop.perform { [self] in
                manager.mapWatches.wait(on: holder, since: since, until: deadline, silence: silence, for: call) {
                    [self] wake in
                    guard wake == .look else { return call.reply(reply) }
                    // It has its place already.
                    manager.maps.resume(for: caller.beneficiary) { [self] in
                        follow(call, caller, name, since: since, until: deadline)
                    }
                }
            }
        } catch {
            call.fail(error.reply(on: .manager))
        }
    }

    private func conversions(_ call: VarlinkCall) {
        answer(call, ManagerInterface.Conversions.Parameters.self, on: manager.lookers) {
            manager, parameters throws(ControlError) in
            let last = try HolderInterface.Conversions.checkedLast(parameters.last)
            return try manager.conversions(try DomainName(validating: parameters.name), last: last)
        }
    }

    private func planStop(_ call: VarlinkCall) {
        answer(call, ManagerInterface.PlanStop.Parameters.self, on: manager.lookers) {
            manager, parameters throws(ControlError) in
            let name = try DomainName(validating: parameters.name)
            return try manager.planStop(name, policy: try Self.policy(parameters))
        }
    }

    private static func policy(_ parameters: ManagerInterface.PlanStop.Parameters) throws(ControlError) -> StopPolicy? {
        guard let text = parameters.policy else { return nil }
        return try StopPolicy(validating: text, standard: .auto)
    }

    private func listCertificates(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in manager.certificates() }
    }

    private func getCertificate(_ call: VarlinkCall) {
        answer(call, ManagerInterface.GetCertificate.Parameters.self, on: manager.lookers) {
            manager, parameters throws(ControlError) in
            try manager.certificate(parameters.certificate)
        }
    }

    /// Each is a place in memory for as long as its client takes to read it.
    private func inventory(_ call: VarlinkCall) {
        guard let caller = permitted(call) else { return }
        let uid = call.peer.uid
        do throws(VarlinkErrorReply) {
            let parameters = try call.parameters(as: ManagerInterface.Inventory.Parameters.self)
            let isAdmitted = readers.withLock { readers in
                guard readers[uid, default: 0] < Self.inventoriesPerUser else { return false }
                readers[uid, default: 0] += 1
                return true
            }
            guard isAdmitted else {
                let reason = "user \(uid) reads \(Self.inventoriesPerUser) inventories already"
                throw ControlError.tryAgain(reason: reason).reply(on: .manager)
            }
            let stream = InventoryStream(manager, call, wantsRanges: parameters.ranges ?? false) { [weak self] in
                self?.readers.withLock { readers in
                    readers[uid, default: 1] -= 1
                    if readers[uid] == 0 { readers[uid] = nil }
                }
            }
            stream.start(for: caller.beneficiary)
        } catch {
            call.fail(error)
        }
    }

    private func getKeys(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in try manager.keys() }
    }

    // MARK: Calls that change

    /// Changes something even where it only looks: conversions wait meanwhile.
    private func verify(_ call: VarlinkCall) {
        answerOwn(call, ManagerInterface.Verify.Parameters.self) {
            manager, parameters, principal throws(ControlError) in
            try manager.verify(
                try DomainName(validating: parameters.name), reclaim: parameters.reclaim, as: principal)
        }
    }

    private func create(_ call: VarlinkCall) {
        // A pool of its own: those that wait must not keep ends of TDs waiting, which are what they wait for.
        answer(call, CallParameters.Create.self, on: manager.creators) {
            manager, parameters throws(ControlError) in
            var asked = try CreateOrder(
                name: parameters.name, memoryBytes: parameters.memoryBytes, vcpus: parameters.vcpus,
                firmware: parameters.firmware, mrConfigID: parameters.mrconfigid, mrOwner: parameters.mrowner,
                mrOwnerConfig: parameters.mrownerconfig)
            asked.isPreallocated = parameters.preallocate ?? false
            asked.isPrefaulted = parameters.prefault ?? false
            asked.patience = try parameters.waitMilliseconds.map { text throws(ControlError) in
                Duration.milliseconds(Int64(try CreationLimits.checkedWait(milliseconds: text)))
            }
            asked.numa = try parameters.numa.map { policy throws(ControlError) in try policy.checked() }
            let order = asked
            let count = call.receivedDescriptors.count
            guard count == 0 || count == 1 && order.firmware != nil else {
                throw .invalidField(
                    field: "firmware", value: "\(count) descriptors",
                    limit: "the image's descriptor alone, with its name, or none")
            }
            var image: RetainedDescriptor?
            if let descriptor = call.receivedDescriptors.takeFirst() { image = RetainedDescriptor(descriptor) }
            let isLeft: @Sendable () -> Bool = { call.isCancelled }
            var meter = ProgressMeter()
            let domain = try manager.create(order, image: image, for: call.peer.uid, isLeft: isLeft) {
                call.replyContinues(ManagerInterface.Create.Reply(progress: meter.completed($0)))
            }
            return ManagerInterface.Create.Reply(domain: domain)
        }
    }

    private func attach(_ call: VarlinkCall) {
        answer(call, ManagerInterface.Attach.Parameters.self, on: manager.creators) {
            manager, parameters throws(ControlError) in
            let order = try CreateOrder(
                name: parameters.name, memoryBytes: parameters.memoryBytes, vcpus: parameters.vcpus, firmware: nil,
                mrConfigID: nil, mrOwner: nil, mrOwnerConfig: nil)
            let descriptors = call.receivedDescriptors
            let limit = ManagerInterface.Attach.connections
            guard limit.contains(descriptors.count) else {
                throw .invalidField(
                    field: "descriptors", value: "\(descriptors.count)",
                    limit: "\(limit.lowerBound) to \(limit.upperBound) connected sockets")
            }
            var sockets: [RetainedDescriptor] = []
            while let descriptor = descriptors.takeFirst() { sockets.append(RetainedDescriptor(descriptor)) }
            return try manager.attach(order, id: parameters.id, sockets, of: call.peer)
        }
    }

    private func convert(_ call: VarlinkCall) {
        guard let caller = permitted(call) else { return }
        let principal = caller.principal
        do throws(VarlinkErrorReply) {
            let parameters = try call.parameters(as: CallParameters.Convert.self)
            let (order, side) = try refusing { () throws(ControlError) in try Self.order(parameters) }
            // Each thread that a short one goes through costs it more than the conversion does.
            if try convertBriefly(call, order, side, principal) { return }
            perform(call, for: caller, on: manager.workers) { manager throws(ControlError) in
                // Who asked for one answer alone need not be there for the work to be wanted.
                let isLeft = { call.wantsMore && call.isCancelled }
                var meter = ProgressMeter()
                let reply = try manager.convert(order, to: side, as: principal, isLeft: isLeft) { soFar in
                    var soFar = soFar
                    soFar.progress = soFar.progress.map { meter.completed($0) }
                    call.replyContinues(soFar)
                }
                manager.converted(reply)
                return reply
            }
        } catch {
            call.fail(error)
        }
    }

    private static func order(
        _ parameters: CallParameters.Convert
    ) throws(ControlError) -> (ConvertOrder, MemorySide) {
        let order = try ConvertOrder(name: parameters.name, gpa: parameters.gpa, bytes: parameters.bytes)
        guard let side = MemorySide(rawValue: parameters.to) else {
            throw .invalidField(field: "to", value: ControlError.quoting(parameters.to), limit: "private or shared")
        }
        return (order, side)
    }

    /// - Returns: whether the call will be answered.
    private func convertBriefly(
        _ call: VarlinkCall, _ order: ConvertOrder, _ side: MemorySide, _ principal: Principal
    ) throws(VarlinkErrorReply) -> Bool {
        try refusing { [manager] () throws(ControlError) in
            try manager.convertBriefly(order, to: side, as: principal) { result in
                switch result {
                case .success(let reply):
                    call.reply(reply)
                    manager.converted(reply)
                case .failure(let error): call.fail(error.reply(on: .manager))
                }
            }
        }
    }

    private func refusing<Result>(
        _ body: () throws(ControlError) -> Result
    ) throws(VarlinkErrorReply) -> Result {
        do throws(ControlError) { return try body() } catch { throw error.reply(on: .manager) }
    }

    private func stop(_ call: VarlinkCall) {
        end(call, ManagerInterface.Stop.Parameters.self) {
            manager, parameters, principal, watcher throws(ControlError) in
            try manager.stop(try StopOrder(parameters), as: principal, watcher)
        }
    }

    private func reclaim(_ call: VarlinkCall) {
        end(call, ManagerInterface.Reclaim.Parameters.self) {
            manager, parameters, principal, watcher throws(ControlError) in
            try manager.reclaim(try ReclaimOrder(parameters), as: principal, watcher)
        }
    }

    /// A call whose answer may come before its work is done.
    private func end<Parameters: Decodable & Sendable>(
        _ call: VarlinkCall, _ type: Parameters.Type,
        _ body: @escaping @Sendable (Manager, Parameters, Principal, StopWatcher) throws(ControlError) -> Void
    ) {
        guard let caller = permitted(call) else { return }
        let principal = caller.principal
        let parameters: Parameters
        do throws(VarlinkErrorReply) { parameters = try call.parameters(as: type) } catch { return call.fail(error) }
        submit(call, for: caller, to: manager.workers) { [manager] in
            let watcher = StopWatcher(
                progress: { call.replyContinues(ManagerInterface.Stop.Reply(progress: $0)) },
                answer: { call.reply(ManagerInterface.Stop.Reply(certificate: $0)) },
                refusal: { call.fail($0.reply(on: .manager)) })
            do throws(ControlError) {
                try body(manager, parameters, principal, watcher)
            } catch {
                call.fail(error.reply(on: .manager))
            }
        }
    }

    private func drain(_ call: VarlinkCall) {
        answer(call, ManagerInterface.Drain.Parameters.self, on: manager.workers) {
            manager, parameters throws(ControlError) in
            let policy = try parameters.policy.map { text throws(ControlError) in
                let policy = try StopPolicy(validating: text, standard: .auto)
                // One that may refuse or leaves memory for later empties no host.
                guard policy == .auto || policy == .dynamicRemoval else {
                    throw .invalidField(field: "policy", value: text, limit: "auto or dynamic-removal, for a drain")
                }
                return policy
            }
            let deadline = try parameters.deadlineMilliseconds.map { text throws(ControlError) in
                Duration.milliseconds(Int64(try ReleaseLimits.checkedDeadline(milliseconds: text)))
            }
            var meter = ProgressMeter()
            let status = try manager.drain(parameters.purpose, policy: policy, deadline: deadline) {
                call.replyContinues(ManagerInterface.Drain.Reply(progress: meter.completed($0)))
            }
            return ManagerInterface.Drain.Reply(status: status)
        }
    }

    private func getDrain(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in
            ManagerInterface.GetDrain.Reply(status: manager.drainStatus())
        }
    }

    private func undrain(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in
            ManagerInterface.Undrain.Reply(status: try manager.undrain())
        }
    }

    private func checkKexec(_ call: VarlinkCall) {
        answer(call, on: manager.lookers) { manager throws(ControlError) in try manager.checkKexec() }
    }

    private func selfTest(_ call: VarlinkCall) {
        answer(call, on: manager.workers) { manager throws(ControlError) in
            try manager.selfTest { call.replyContinues(ManagerInterface.SelfTest.Reply(step: $0)) }
        }
    }

    // MARK: Answering

    private func answer<Reply: Encodable & SendableMetatype>(
        _ call: VarlinkCall, on pool: WorkerPool,
        _ body: @escaping @Sendable (Manager) throws(ControlError) -> Reply
    ) {
        guard let caller = permitted(call) else { return }
        perform(call, for: caller, on: pool, body)
    }

    private func answer<Parameters: Decodable & Sendable, Reply: Encodable & SendableMetatype>(
        _ call: VarlinkCall, _ type: Parameters.Type, on pool: WorkerPool,
        _ body: @escaping @Sendable (Manager, Parameters) throws(ControlError) -> Reply
    ) {
        guard let caller = permitted(call) else { return }
        do throws(VarlinkErrorReply) {
            let parameters = try call.parameters(as: type)
            perform(call, for: caller, on: pool) { manager throws(ControlError) in try body(manager, parameters) }
        } catch {
            call.fail(error)
        }
    }

    /// A call about a TD that must be the caller's own, unless the caller is an admin.
    private func answerOwn<Parameters: Decodable & Sendable, Reply: Encodable & SendableMetatype>(
        _ call: VarlinkCall, _ type: Parameters.Type,
        _ body: @escaping @Sendable (Manager, Parameters, Principal) throws(ControlError) -> Reply
    ) {
        guard let caller = permitted(call) else { return }
        do throws(VarlinkErrorReply) {
            let parameters = try call.parameters(as: type)
            perform(call, for: caller, on: manager.workers) { manager throws(ControlError) in
                try body(manager, parameters, caller.principal)
            }
        } catch {
            call.fail(error)
        }
    }

    private func perform<Reply: Encodable & SendableMetatype>(
        _ call: VarlinkCall, for caller: Caller, on pool: WorkerPool,
        _ body: @escaping @Sendable (Manager) throws(ControlError) -> Reply
    ) {
        submit(call, for: caller, to: pool) { [manager] in
            do throws(ControlError) {
                call.reply(try body(manager))
            } catch {
                call.fail(error.reply(on: .manager))
            }
        }
    }

    /// Hands a call to a thread of the caller's share, or refuses it at once.
    private func submit(
        _ call: VarlinkCall, for caller: Caller, to pool: WorkerPool, _ job: @escaping WorkerPool.Job
    ) {
        guard !pool.submit(for: caller.beneficiary, job) else { return }
        call.fail(ControlError.tryAgain(reason: caller.tooManyCalls).reply(on: .manager))
    }

    /// Who calls, and whose TDs it may touch; nil, with the call failed and logged, where it may not be made.
    func permitted(_ call: VarlinkCall) -> Caller? {
        let policy = PeerPolicy(manager.configuration.access, ownUID: manager.ownUID)
        let method = call.method.split(separator: ".").last.map { String($0) } ?? call.method
        do throws(ControlError) {
            return try policy.check(method: method, uid: call.peer.uid, groups: [call.peer.gid] + call.peer.groups)
        } catch {
            tellRefused(method, call.peer)
            call.fail(error.reply(on: .manager))
            return nil
        }
    }

    /// Logs a refusal, unless there were many of this user's just now.
    func tellRefused(_ what: String, _ peer: PeerCredentials) {
        let unlogged = refusals.withLock { log in
            log.shouldLog(uid: peer.uid, now: Int64(clamping: MonotonicInstant.now.nanoseconds))
        }
        guard let unlogged else { return }
        manager.log.warning(
            "refused a call",
            metadata: [
                "method": "\(what)", "uid": "\(peer.uid)", "pid": "\(peer.pid)",
                "program": "\(peer.programName ?? "unknown")", "unlogged": "\(unlogged)",
            ])
    }
}
