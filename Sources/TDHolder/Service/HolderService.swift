internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Varlink

/// io.tdxd.Holder: turns calls into work for the two workers, and results into answers. Handlers run on the event loop
/// and only decide; what may block runs on `worker`, in order, or on `inspector`, which does not wait for it.
final class HolderService: Sendable {
    private let holder: Holder
    /// Builds, converts and stops, one after another.
    private let worker: SerialWorker
    /// Looks, also while the worker is busy.
    private let inspector: SerialWorker
    private let followers: MapFollowers
    /// Called from a worker when this process has nothing more to do; every answer was handed over before.
    private let onFinished: @Sendable () -> Void
    /// Called from a worker when a build has failed.
    private let onBuildFailed: @Sendable () -> Void

    init(
        holder: Holder, worker: SerialWorker, inspector: SerialWorker, followers: MapFollowers,
        onFinished: @escaping @Sendable () -> Void,
        onBuildFailed: @escaping @Sendable () -> Void
    ) {
        self.holder = holder
        self.worker = worker
        self.inspector = inspector
        self.followers = followers
        self.onFinished = onFinished
        self.onBuildFailed = onBuildFailed
    }

    /// Every method by name. Only the user that this process runs as, or root, may call.
    var handlers: [String: VarlinkServer.Handler] {
        let own = CurrentProcess.effectiveUID
        return Dictionary(
            uniqueKeysWithValues: HolderInterface.Method.allCases.map { method in
                let handler = handler(of: method)
                return (
                    method.rawValue,
                    { call in
                        guard call.peer.uid == own || call.peer.uid == 0 else {
                            let error = ControlError.notPermitted(
                                needed: own == 0 ? "root" : "uid \(own) or root",
                                reason: "the caller has uid \(call.peer.uid)")
                            return call.fail(error.reply(on: .holder))
                        }
                        handler(call)
                    }
                )
            })
    }

    /// The table of methods: what takes each call's parameters, and where it runs.
    private func handler(of method: HolderInterface.Method) -> VarlinkServer.Handler {
        typealias Interface = HolderInterface
        return switch method {
        case .build:
            onLoop(Interface.Build.self) { service, call, request throws(ControlError) in
                try service.build(call, request)
            }
        case .describe:
            look(Interface.Describe.self) { holder, _ throws(ControlError) in
                .init(description: try holder.describe())
            }
        case .convert:
            onLoop(Interface.Convert.self) { service, call, request throws(ControlError) in
                try service.convert(call, request)
            }
        case .map:
            look(Interface.Map.self) { holder, _ throws(ControlError) in .init(runs: try holder.map()) }
        case .mapChanges:
            onLoop(Interface.MapChanges.self) { service, call, request throws(ControlError) in
                service.followers.follow(
                    call, since: request.since.map { UInt64($0.rawValue) },
                    wait: (request.waitMilliseconds ?? .standard).duration)
            }
        case .conversions:
            look(Interface.Conversions.self) { holder, request throws(ControlError) in
                try holder.conversions(last: (request.last ?? .standard).count)
            }
        case .planStop:
            look(Interface.PlanStop.self) { holder, request throws(ControlError) in
                try holder.planStop(.init(request.policy ?? .auto))
            }
        case .verify:
            work(Interface.Verify.self) { holder, request throws(ControlError) in
                try holder.verify(reclaim: request.reclaim)
            }
        case .getBacking:
            lookWithFiles(Interface.GetBacking.self) { holder, _ throws(ControlError) in
                let backing = try holder.backing()
                return (.init(files: backing.files), backing.descriptors)
            }
        case .getFigures:
            lookWithFiles(Interface.GetFigures.self) { holder, _ throws(ControlError) in
                (.init(), [try holder.figures()])
            }
        case .getPrivateRanges:
            lookWithFiles(Interface.GetPrivateRanges.self) { holder, _ throws(ControlError) in
                let ranges = try holder.privateRanges()
                return (.init(sequence: Int64(clamping: ranges.sequence)), [ranges.file])
            }
        case .stop:
            onLoop(Interface.Stop.self) { service, call, request throws(ControlError) in
                try service.stop(call, request)
            }
        case .reclaim:
            onLoop(Interface.Reclaim.self) { service, call, request throws(ControlError) in
                try service.reclaim(call, request)
            }
        case .setPace:
            onLoop(Interface.SetPace.self) { service, call, request throws(ControlError) in
                service.holder.setPace(request.bytesPerSecond?.bytesPerSecond)
                call.reply()
            }
        }
    }

    // MARK: Where a call runs

    private typealias Answer<Method: ControlMethod> =
        @Sendable (Holder, Method.Parameters) throws(ControlError) -> Method.Reply
    private typealias AnswerWithFiles<Method: ControlMethod> =
        @Sendable (Holder, Method.Parameters) throws(ControlError) -> (Method.Reply, [RetainedDescriptor])

    /// On the event loop, which it must not block; it answers the call itself, now or later.
    private func onLoop<Method: ControlMethod>(
        _: Method.Type,
        _ body: @escaping @Sendable (HolderService, VarlinkCall, Method.Parameters) throws(ControlError) -> Void
    ) -> VarlinkServer.Handler {
        { [self] call in
            do throws(VarlinkErrorReply) {
                let parameters = try call.request(Method.Parameters.self, on: .holder)
                do throws(ControlError) { try body(self, call, parameters) } catch { throw error.reply(on: .holder) }
            } catch {
                call.fail(error)
            }
        }
    }

    /// On the inspector.
    private func look<Method: ControlMethod>(
        _ method: Method.Type, _ body: @escaping Answer<Method>
    ) -> VarlinkServer.Handler { run(method, on: inspector, body) }

    /// On the worker, after what it has to do already.
    private func work<Method: ControlMethod>(
        _ method: Method.Type, _ body: @escaping Answer<Method>
    ) -> VarlinkServer.Handler { run(method, on: worker, body) }

    private func run<Method: ControlMethod>(
        _ method: Method.Type, on thread: SerialWorker, _ body: @escaping Answer<Method>
    ) -> VarlinkServer.Handler {
        onLoop(method) { service, call, parameters throws(ControlError) in
            thread.run { Self.finish(call) { () throws(ControlError) in try body(service.holder, parameters) } }
        }
    }

    /// On the inspector; file descriptors go with the reply.
    private func lookWithFiles<Method: ControlMethod>(
        _ method: Method.Type, _ body: @escaping AnswerWithFiles<Method>
    ) -> VarlinkServer.Handler {
        onLoop(method) { service, call, parameters throws(ControlError) in
            service.inspector.run {
                do throws(ControlError) {
                    let (reply, descriptors) = try body(service.holder, parameters)
                    call.reply(reply, descriptors: descriptors)
                } catch {
                    call.fail(error.reply(on: .holder))
                }
            }
        }
    }

    private static func finish(_ call: VarlinkCall, _ body: () throws(ControlError) -> some Encodable) {
        do throws(ControlError) { call.reply(try body()) } catch { call.fail(error.reply(on: .holder)) }
    }

    // MARK: Calls

    private func build(_ call: VarlinkCall, _ order: HolderInterface.Build.Parameters) throws(ControlError) {
        let count = call.receivedDescriptors.count
        guard count == (order.request.firmware == nil ? 0 : 1) else {
            throw .invalidField(
                field: "firmware", value: "\(count) descriptors",
                limit: "the image's descriptor alone, or no descriptor without firmware")
        }
        var image: RetainedDescriptor?
        if let descriptor = call.receivedDescriptors.takeFirst() { image = RetainedDescriptor(descriptor) }
        try holder.beginBuild(order)
        let throttle = ProgressThrottle()
        worker.run { [holder, onBuildFailed, image] in
            do throws(ControlError) {
                let description = try holder.build(order, image: image) {
                    if throttle.isDue($0) { call.replyContinues(HolderInterface.Build.Reply(progress: $0)) }
                }
                let backing = try holder.backing()
                call.reply(
                    HolderInterface.Build.Reply(description: description, files: backing.files),
                    descriptors: backing.descriptors + [try holder.figures()])
            } catch {
                call.fail(error.reply(on: .holder))
                onBuildFailed()
            }
        }
    }

    private func convert(_ call: VarlinkCall, _ request: HolderInterface.Convert.Parameters) throws(ControlError) {
        if try convertAtOnce(call, request) { return }
        let isLong = request.bytes.size > HolderInterface.Convert.chunk
        let throttle = isLong ? ProgressThrottle() : nil
        worker.run { [holder, followers] in
            Self.finish(call) { () throws(ControlError) in
                // Who asked for one answer alone need not be there for the work to be wanted.
                try holder.convert(request, isLeft: { call.wantsMore && call.isCancelled }) { soFar in
                    guard let throttle, let step = soFar.progress, throttle.isDue(step) else { return }
                    call.replyContinues(soFar)
                    followers.wake()
                }
            }
            followers.wake()
        }
    }

    /// Does on the loop what takes no longer than waking the worker up. All work for the worker comes from the loop, so that
    /// nothing overlaps with it and nothing overtakes what waits.
    /// - Returns: whether the call is answered.
    private func convertAtOnce(
        _ call: VarlinkCall, _ request: HolderInterface.Convert.Parameters
    ) throws(ControlError) -> Bool {
        guard worker.isIdle, let reply = try holder.convertAtOnce(request) else { return false }
        call.reply(reply)
        followers.wake()
        return true
    }

    private func stop(_ call: VarlinkCall, _ request: HolderInterface.Stop.Parameters) throws(ControlError) {
        let order = TeardownPolicy.Order(request.policy ?? .auto)
        try holder.beginStop(order)
        followers.wake()
        let throttle = ProgressThrottle()
        worker.run { [holder, onFinished] in
            let (reply, isHeld) = holder.stop(order, holds: request.hold ?? false) {
                if throttle.isDue($0) { call.replyContinues(HolderInterface.Stop.Reply(progress: $0)) }
            }
            call.reply(reply)
            if !isHeld { onFinished() }
        }
    }

    private func reclaim(_ call: VarlinkCall, _ request: HolderInterface.Reclaim.Parameters) throws(ControlError) {
        try holder.beginReclaim()
        holder.setPace(request.bytesPerSecond?.bytesPerSecond)
        let throttle = ProgressThrottle()
        worker.run { [holder, onFinished] in
            let (reply, isHeld) = holder.reclaim(chunk: request.chunkBytes?.bytes) {
                if throttle.isDue($0) { call.replyContinues(HolderInterface.Reclaim.Reply(progress: $0)) }
            }
            call.reply(reply)
            if !isHeld { onFinished() }
        }
    }

    /// Ends the TD in an orderly way without a call, after whatever the worker is doing. Where a page could not
    /// be taken from it the process stays, with the memory; asked once more, it goes.
    func stopUnasked() {
        worker.run { [holder, onFinished] in
            if holder.isWithheld { return onFinished() }
            let isHeld: Bool
            if let _ = try? holder.beginReclaim() {
                holder.setPace(nil)
                isHeld = holder.reclaim(chunk: nil) { _ in }.isHeld
            } else {
                // A refusal means that a Stop was there first; the process ends with that one.
                guard let _ = try? holder.beginStop() else { return }
                isHeld = holder.stop { _ in }.isHeld
            }
            if !isHeld { onFinished() }
        }
    }
}
