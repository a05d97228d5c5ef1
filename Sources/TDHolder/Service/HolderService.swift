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

    var handlers: [String: VarlinkServer.Handler] {
        [
            "Build": guarded(build), "Describe": guarded(describe), "Convert": guarded(convert), "Map": guarded(map),
            "Verify": guarded(verify), "PlanStop": guarded(planStop), "GetBacking": guarded(getBacking),
            "Stop": guarded(stop), "Reclaim": guarded(reclaim), "MapChanges": guarded(mapChanges),
            "SetPace": guarded(setPace), "GetFigures": guarded(getFigures), "Conversions": guarded(conversions),
            "GetPrivateRanges": guarded(getPrivateRanges),
        ]
    }

    /// Ends the TD in an orderly way without anyone having called, behind whatever the worker is doing. Where a page could not
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

    // MARK: Calls

    private typealias Body = @Sendable (VarlinkCall) throws(VarlinkErrorReply) -> Void

    /// Only the user that this process runs as, or root, may call.
    private func guarded(_ body: @escaping Body) -> VarlinkServer.Handler {
        { call in
            let own = CurrentProcess.effectiveUID
            guard call.peer.uid == own || call.peer.uid == 0 else {
                let needed = own == 0 ? "root" : "uid \(own) or root"
                let error = ControlError.notPermitted(needed: needed, reason: "the caller has uid \(call.peer.uid)")
                return call.fail(error.reply(on: .holder))
            }
            do throws(VarlinkErrorReply) { try body(call) } catch { call.fail(error) }
        }
    }

    private func build(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Build.Parameters.self)
        let order = try answering { () throws(ControlError) in
            do throws(Refusal) { return try BuildOrder(parameters) } catch { throw ControlError(error) }
        }
        let count = call.receivedDescriptors.count
        guard count == (order.firmware == nil ? 0 : 1) else {
            let limit = "the image's descriptor alone, or no descriptor without firmware"
            let error = ControlError.invalidField(field: "firmware", value: "\(count) descriptors", limit: limit)
            throw error.reply(on: .holder)
        }
        var image: RetainedDescriptor?
        if let descriptor = call.receivedDescriptors.takeFirst() { image = RetainedDescriptor(descriptor) }
        try answering { () throws(ControlError) in try holder.beginBuild(order) }
        let throttle = ProgressThrottle()
        worker.run { [holder, onBuildFailed, image] in
            do throws(ControlError) {
                let description = try holder.build(order, image: image) {
                    if throttle.isDue($0) { call.replyContinues(HolderInterface.Build.Reply(progress: $0)) }
                }
                call.reply(HolderInterface.Build.Reply(description: description))
            } catch {
                call.fail(error.reply(on: .holder))
                onBuildFailed()
            }
        }
    }

    private func describe(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        inspector.run { [holder] in
            Self.finish(call) { () throws(ControlError) in
                HolderInterface.Describe.Reply(description: try holder.describe())
            }
        }
    }

    private func convert(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Convert.Parameters.self)
        if try convertAtOnce(call, parameters) { return }
        let isLong = parameters.bytes > HolderInterface.Convert.chunkBytes
        let throttle = isLong ? ProgressThrottle() : nil
        worker.run { [holder, followers] in
            Self.finish(call) { () throws(ControlError) in
                // Who asked for one answer alone need not be there for the work to be wanted.
                try holder.convert(parameters, isLeft: { call.wantsMore && call.isCancelled }) { soFar in
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
        _ call: VarlinkCall, _ parameters: HolderInterface.Convert.Parameters
    ) throws(VarlinkErrorReply) -> Bool {
        guard worker.isIdle else { return false }
        let reply = try answering { () throws(ControlError) in try holder.convertAtOnce(parameters) }
        guard let reply else { return false }
        call.reply(reply)
        followers.wake()
        return true
    }

    private func mapChanges(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.MapChanges.Parameters.self)
        let (since, wait) = try answering { () throws(ControlError) in
            (
                try MapFollowing.checkedSequence(parameters.since),
                try MapFollowing.checkedWait(parameters.waitMilliseconds)
            )
        }
        followers.follow(call, since: since, wait: wait)
    }

    private func verify(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Verify.Parameters.self)
        worker.run { [holder] in
            Self.finish(call) { () throws(ControlError) in try holder.verify(reclaim: parameters.reclaim) }
        }
    }

    private func map(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        inspector.run { [holder] in
            Self.finish(call) { () throws(ControlError) in HolderInterface.Map.Reply(runs: try holder.map()) }
        }
    }

    private func conversions(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Conversions.Parameters.self)
        let last = try answering { () throws(ControlError) in
            try HolderInterface.Conversions.checkedLast(parameters.last)
        }
        inspector.run { [holder] in
            Self.finish(call) { () throws(ControlError) in try holder.conversions(last: last) }
        }
    }

    private func getBacking(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        inspector.run { [holder] in
            do throws(ControlError) {
                let backing = try holder.backing()
                call.reply(
                    HolderInterface.GetBacking.Reply(files: backing.files), descriptors: backing.descriptors)
            } catch {
                call.fail(error.reply(on: .holder))
            }
        }
    }

    private func getFigures(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        inspector.run { [holder] in
            do throws(ControlError) {
                call.reply(NoParameters(), descriptors: [try holder.figures()])
            } catch {
                call.fail(error.reply(on: .holder))
            }
        }
    }

    private func getPrivateRanges(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        inspector.run { [holder] in
            do throws(ControlError) {
                let ranges = try holder.privateRanges()
                call.reply(
                    HolderInterface.GetPrivateRanges.Reply(sequence: Int64(clamping: ranges.sequence)),
                    descriptors: [ranges.file])
            } catch {
                call.fail(error.reply(on: .holder))
            }
        }
    }

    private func planStop(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let order = try order(try call.parameters(as: HolderInterface.PlanStop.Parameters.self).policy)
        inspector.run { [holder] in
            Self.finish(call) { () throws(ControlError) in try holder.planStop(order) }
        }
    }

    private func stop(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Stop.Parameters.self)
        let order = try order(parameters.policy)
        try answering { () throws(ControlError) in try holder.beginStop(order) }
        followers.wake()
        let throttle = ProgressThrottle()
        worker.run { [holder, onFinished] in
            let (reply, isHeld) = holder.stop(order, holds: parameters.hold ?? false) {
                if throttle.isDue($0) { call.replyContinues(HolderInterface.Stop.Reply(progress: $0)) }
            }
            call.reply(reply)
            if !isHeld { onFinished() }
        }
    }

    private func order(_ policy: String?) throws(VarlinkErrorReply) -> TeardownPolicy.Order {
        try answering { () throws(ControlError) in
            TeardownPolicy.Order(try StopPolicy(validating: policy, standard: .auto))
        }
    }

    private func reclaim(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.Reclaim.Parameters.self)
        let chunk = try parameters.chunkBytes.map { bytes throws(VarlinkErrorReply) in
            try answering { () throws(ControlError) in ByteCount(try ReleaseLimits.checkedChunk(bytes)) }
        }
        let pace = try pace(parameters.bytesPerSecond)
        try answering { () throws(ControlError) in try holder.beginReclaim() }
        holder.setPace(pace)
        let throttle = ProgressThrottle()
        worker.run { [holder, onFinished] in
            let (reply, isHeld) = holder.reclaim(chunk: chunk) {
                if throttle.isDue($0) { call.replyContinues(HolderInterface.Reclaim.Reply(progress: $0)) }
            }
            call.reply(reply)
            if !isHeld { onFinished() }
        }
    }

    private func setPace(_ call: VarlinkCall) throws(VarlinkErrorReply) {
        let parameters = try call.parameters(as: HolderInterface.SetPace.Parameters.self)
        holder.setPace(try pace(parameters.bytesPerSecond))
        call.reply(NoParameters())
    }

    private func pace(_ bytesPerSecond: UInt64?) throws(VarlinkErrorReply) -> UInt64? {
        guard let bytesPerSecond else { return nil }
        return try answering { () throws(ControlError) in try ReleaseLimits.checkedPace(bytesPerSecond) }
    }

    // MARK: Answers

    private func answering<Result>(
        _ body: () throws(ControlError) -> Result
    ) throws(VarlinkErrorReply) -> Result {
        do throws(ControlError) { return try body() } catch { throw error.reply(on: .holder) }
    }

    private static func finish(_ call: VarlinkCall, _ body: () throws(ControlError) -> some Encodable) {
        do throws(ControlError) { call.reply(try body()) } catch { call.fail(error.reply(on: .holder)) }
    }
}
