internal import ControlInterface
internal import LinuxSystem
internal import Varlink

/// A method of io.tdxd.Manager: who may call it, and what takes the call.
struct ManagerMethod: Sendable {
    /// The least role that may call it.
    let role: Role
    /// On the event loop, which it must not block; it answers the call itself, now or later.
    let take: @Sendable (ManagerService, VarlinkCall, Caller) throws(VarlinkErrorReply) -> Void
}

/// The threads that a call waits on.
enum CallPool: Hashable, Sendable {
    /// For calls that only look.
    case look
    /// For whole maps, and for what has changed of them.
    case map
    /// For creations, so that those that wait do not keep ends of TDs waiting, which are what they wait for.
    case create
    /// For other calls that change something or take long.
    case work
}

/// A call with its parameters, which are checked.
@dynamicMemberLookup
struct ManagerCall<Method: ControlMethod>: Sendable {
    let parameters: Method.Parameters
    let call: VarlinkCall
    let caller: Caller

    subscript<Value>(dynamicMember path: KeyPath<Method.Parameters, Value>) -> Value { parameters[keyPath: path] }

    /// Whose TDs the call may touch.
    var principal: Principal { caller.principal }

    /// One of several answers; nothing where the client takes one alone.
    func continues(with reply: Method.Reply) { call.replyContinues(reply) }
}

extension ManagerMethod {
    /// Answered by a thread of a pool.
    static func on<Method: ControlMethod>(
        _ pool: CallPool, _ role: Role, _: Method.Type,
        _ body: @escaping @Sendable (Manager, ManagerCall<Method>) throws(ControlError) -> Method.Reply
    ) -> Self {
        atOnce(role, Method.self) { service, request in
            service.submit(request, to: pool) { manager throws(ControlError) in
                request.call.reply(try body(manager, request))
            }
        }
    }

    /// As `on`, of a call whose answer may come before its work is done.
    static func ending<Method: ControlMethod>(
        _ role: Role, _: Method.Type,
        _ body: @escaping @Sendable (Manager, ManagerCall<Method>, StopWatcher) throws(ControlError) -> Void
    ) -> Self where Method.Reply == ManagerInterface.Stop.Reply {
        atOnce(role, Method.self) { service, request in
            service.submit(request, to: .work) { manager throws(ControlError) in
                let watcher = StopWatcher(
                    progress: { request.continues(with: .init(progress: $0)) },
                    answer: { request.call.reply(ManagerInterface.Stop.Reply(certificate: $0)) },
                    refusal: { request.call.fail($0.reply(on: .manager)) })
                try body(manager, request, watcher)
            }
        }
    }

    /// Begun on the event loop.
    static func atOnce<Method: ControlMethod>(
        _ role: Role, _: Method.Type,
        _ body: @escaping @Sendable (ManagerService, ManagerCall<Method>) throws(VarlinkErrorReply) -> Void
    ) -> Self {
        Self(role: role) { service, call, caller throws(VarlinkErrorReply) in
            let parameters = try call.request(Method.Parameters.self, on: .manager)
            try body(service, ManagerCall(parameters: parameters, call: call, caller: caller))
        }
    }
}

extension ManagerInterface.Method {
    /// The table of methods.
    var row: ManagerMethod {
        typealias Interface = ManagerInterface
        return switch self {
        case .check: .atOnce(.observe, Interface.Check.self) { $0.check($1) }
        case .list:
            .on(.look, .observe, Interface.List.self) { manager, _ throws(ControlError) in
                .init(domains: manager.list())
            }
        case .show:
            .on(.look, .observe, Interface.Show.self) { manager, request throws(ControlError) in
                .init(domain: try manager.show(request.name))
            }
        case .map:
            .on(.map, .observe, Interface.Map.self) { manager, request throws(ControlError) in
                try manager.map(request.name)
            }
        case .mapChanges: .atOnce(.observe, Interface.MapChanges.self) { $0.mapChanges($1) }
        case .conversions:
            .on(.look, .observe, Interface.Conversions.self) { manager, request throws(ControlError) in
                try manager.conversions(request.name, last: request.last ?? .standard)
            }
        case .planStop:
            .on(.look, .observe, Interface.PlanStop.self) { manager, request throws(ControlError) in
                try manager.planStop(request.name, policy: request.policy)
            }
        case .listCertificates:
            .on(.look, .observe, Interface.ListCertificates.self) { manager, _ throws(ControlError) in
                manager.certificates()
            }
        case .getCertificate:
            .on(.look, .observe, Interface.GetCertificate.self) { manager, request throws(ControlError) in
                try manager.certificate(request.certificate)
            }
        case .getKeys:
            .on(.look, .observe, Interface.GetKeys.self) { manager, _ throws(ControlError) in try manager.keys() }
        case .getDrain:
            .on(.look, .observe, Interface.GetDrain.self) { manager, _ throws(ControlError) in
                .init(status: manager.drainStatus())
            }
        case .checkKexec:
            .on(.look, .observe, Interface.CheckKexec.self) { manager, _ throws(ControlError) in
                try manager.checkKexec()
            }
        case .inventory:
            .atOnce(.observe, Interface.Inventory.self) { service, request throws(VarlinkErrorReply) in
                try service.inventory(request)
            }
        case .create:
            .on(.create, .operate, Interface.Create.self) { manager, request throws(ControlError) in
                try manager.create(request)
            }
        case .attach:
            .on(.create, .operate, Interface.Attach.self) { manager, request throws(ControlError) in
                try manager.attach(request)
            }
        case .convert:
            .atOnce(.operate, Interface.Convert.self) { service, request throws(VarlinkErrorReply) in
                try service.convert(request)
            }
        case .verify:
            // Conversions wait meanwhile.
            .on(.work, .operate, Interface.Verify.self) { manager, request throws(ControlError) in
                try manager.verify(request.name, reclaim: request.reclaim, as: request.principal)
            }
        case .stop:
            .ending(.operate, Interface.Stop.self) { manager, request, watcher throws(ControlError) in
                try manager.stop(request.parameters, as: request.principal, watcher)
            }
        case .reclaim:
            .ending(.operate, Interface.Reclaim.self) { manager, request, watcher throws(ControlError) in
                try manager.reclaim(request.parameters, as: request.principal, watcher)
            }
        case .drain:
            .on(.work, .admin, Interface.Drain.self) { manager, request throws(ControlError) in
                var meter = ProgressMeter()
                return .init(
                    status: try manager.drain(
                        request.purpose, policy: try request.parameters.checkedPolicy(),
                        deadline: request.deadlineMilliseconds?.duration
                    ) { request.continues(with: .init(progress: meter.completed($0))) })
            }
        case .undrain:
            .on(.look, .admin, Interface.Undrain.self) { manager, _ throws(ControlError) in
                .init(status: try manager.undrain())
            }
        case .selfTest:
            .on(.work, .admin, Interface.SelfTest.self) { manager, request throws(ControlError) in
                try manager.selfTest { request.continues(with: .init(step: $0)) }
            }
        }
    }
}
