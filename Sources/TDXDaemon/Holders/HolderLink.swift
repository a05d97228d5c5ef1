internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Varlink

/// Calls of io.tdxd.Holder on one holder's socket. Each call has a connection to itself, so that a long one does not make
/// others wait; one that is over leaves it to the next. All of them block, up to their time-outs.
struct HolderLink: Sendable {
    /// The TD's name, for errors.
    let name: String
    let socket: String
    let idle = IdleConnections()

    init(name: String, socket: String) {
        self.name = name
        self.socket = socket
    }

    /// As many backing files as one message can carry.
    static var limits: VarlinkLimits {
        var limits = VarlinkLimits()
        limits.descriptors = UnixSocket.maximumDescriptors
        limits.messageBytes = 16 << 20
        return limits
    }

    /// Waits until the holder's socket answers.
    /// - Throws: `holderFailed` when the process ends first or the time is up.
    func waitUntilServing(_ process: HolderProcess, limit: Duration) throws(ControlError) {
        let deadline = MonotonicInstant.now + limit
        while true {
            if UnixSocket.isAnswering(socket) { return }
            if let exit = process.waitForEnd(.milliseconds(5)) {
                throw .holderFailed(name: name, reason: "\(exit) before it served")
            }
            guard MonotonicInstant.now < deadline else {
                throw .holderFailed(name: name, reason: "it does not serve after \(limit)")
            }
        }
    }

    /// Who serves the socket; nil when nobody does.
    func servingProcess() -> Int32? {
        guard let client = try? VarlinkClient.connect(socket, timeout: .seconds(2)), let peer = try? client.peer()
        else {
            return nil
        }
        return peer.pid
    }

    func build(
        _ parameters: HolderInterface.Build.Parameters, firmware: RetainedDescriptor?, silence: Duration,
        progress: (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Description {
        let last: HolderInterface.Build.Reply = try following(
            HolderInterface.Build.method, parameters, descriptor: firmware, silence: silence
        ) { if let step = $0.progress { progress(step) } }
        guard let description = last.description else { throw incomplete("Build") }
        return description
    }

    func describe(timeout: Duration) throws(ControlError) -> HolderInterface.Description {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Describe.method, as: HolderInterface.Describe.Reply.self, timeout: timeout)
        }.description
    }

    /// - Parameters:
    ///   - silence: how long nothing may be heard.
    ///   - isLeft: asked whenever there is progress; the conversion then ends between two chunks.
    func convert(
        _ parameters: HolderInterface.Convert.Parameters, silence: Duration, isLeft: () -> Bool,
        progress: (HolderInterface.Convert.Reply) -> Void
    ) throws(ControlError) -> HolderInterface.Convert.Reply {
        let method = HolderInterface.Convert.method
        guard parameters.bytes > HolderInterface.Convert.chunkBytes else {
            return try calling(silence) { (client: VarlinkClient) throws(VarlinkClientError) in
                try client.call(method, parameters, timeout: silence)
            }
        }
        return try following(method, parameters, silence: silence, while: { !isLeft() }, step: progress)
    }

    /// As `convert`, of so little that no progress is told; the event loop waits for the answer. On the loop's thread.
    /// - Parameter then: called once on the loop, unless this returned false.
    /// - Returns: false where no connection is at hand: nothing was asked, and a thread that may wait has to do it.
    func convert(
        _ parameters: HolderInterface.Convert.Parameters, silence: Duration, on loop: EventLoop,
        then: @escaping (Result<HolderInterface.Convert.Reply, ControlError>) -> Void
    ) -> Bool {
        guard let client = idle.take() else { return false }
        return client.call(
            HolderInterface.Convert.method, parameters, as: HolderInterface.Convert.Reply.self, timeout: silence,
            on: loop
        ) { [self] result in
            switch result {
            case .success(let reply):
                idle.putBack(client)
                then(.success(reply))
            case .failure(let error): then(.failure(failure(of: error, client)))
            }
        }
    }

    func map(timeout: Duration) throws(ControlError) -> [MemoryRun] {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(HolderInterface.Map.method, as: HolderInterface.Map.Reply.self, timeout: timeout)
        }.runs
    }

    func mapChanges(
        _ parameters: HolderInterface.MapChanges.Parameters, timeout: Duration
    ) throws(ControlError) -> HolderInterface.MapChanges.Reply {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(HolderInterface.MapChanges.method, parameters, timeout: timeout)
        }
    }

    func conversions(last: Int, timeout: Duration) throws(ControlError) -> HolderInterface.Conversions.Reply {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Conversions.method, HolderInterface.Conversions.Parameters(last: Int64(last)),
                timeout: timeout)
        }
    }

    func verify(reclaim: Bool, timeout: Duration) throws(ControlError) -> HolderInterface.Verify.Reply {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Verify.method, HolderInterface.Verify.Parameters(reclaim: reclaim), timeout: timeout)
        }
    }

    /// Duplicates of the TD's backing files, each checked to be the file that the holder says it is.
    func backing(timeout: Duration) throws(ControlError) -> Backing {
        let answer = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.callWithDescriptors(
                HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self, timeout: timeout)
        }
        var files: [Backing.File] = []
        for file in answer.reply.files {
            guard let descriptor = answer.descriptors.takeFirst() else { throw incomplete("GetBacking") }
            let identity: FileIdentity
            do throws(LinuxError) { identity = try descriptor.status().identity } catch {
                throw .holderFailed(name: name, reason: "\(error)")
            }
            guard identity.inode == file.inode else {
                throw .holderFailed(
                    name: name, reason: "a backing file has inode \(identity.inode), not \(file.inode) as announced")
            }
            files.append(
                Backing.File(
                    side: file.kind, size: ByteCount(file.bytes), identity: identity,
                    descriptor: SharedDescriptor(descriptor)))
        }
        return Backing(files: files)
    }

    /// Pages by state, to be read without asking from now on.
    func figures(timeout: Duration) throws(ControlError) -> FigureReader {
        let answer = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.callWithDescriptors(HolderInterface.GetFigures.method, as: NoParameters.self, timeout: timeout)
        }
        guard let descriptor = answer.descriptors.takeFirst() else { throw incomplete("GetFigures") }
        do throws(LinuxError) { return try FigureReader(descriptor) } catch {
            throw .holderFailed(name: name, reason: "\(error)")
        }
    }

    /// The ranges that are private or in transition, as bytes that nobody can change any more, and the number of the last
    /// change of the map in them.
    func privateRanges(timeout: Duration) throws(ControlError) -> (sequence: Int64, file: SealedFile) {
        let answer = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.callWithDescriptors(
                HolderInterface.GetPrivateRanges.method, as: HolderInterface.GetPrivateRanges.Reply.self,
                timeout: timeout)
        }
        guard let descriptor = answer.descriptors.takeFirst() else { throw incomplete("GetPrivateRanges") }
        do throws(LinuxError) { return (answer.reply.sequence, try SealedFile(descriptor)) } catch {
            throw .holderFailed(name: name, reason: "\(error)")
        }
    }

    func planStop(_ policy: StopPolicy, timeout: Duration) throws(ControlError) -> HolderInterface.PlanStop.Reply {
        try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.PlanStop.method, HolderInterface.PlanStop.Parameters(policy: policy.rawValue),
                timeout: timeout)
        }
    }

    /// Ends the TD as far as its memory, which the holder keeps.
    func halt(
        _ policy: StopPolicy, silence: Duration, progress: (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Stop.Reply {
        let parameters = HolderInterface.Stop.Parameters(policy: policy.rawValue, hold: true)
        return try ending(HolderInterface.Stop.method, parameters, silence: silence, progress: progress)
    }

    /// Gives the memory of a TD back that was halted, and ends the holder.
    func reclaim(
        _ parameters: HolderInterface.Reclaim.Parameters, silence: Duration, progress: (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Stop.Reply {
        try ending(HolderInterface.Reclaim.method, parameters, silence: silence, progress: progress)
    }

    private func ending(
        _ method: String, _ parameters: some Encodable, silence: Duration, progress: (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Stop.Reply {
        let last: HolderInterface.Stop.Reply = try following(method, parameters, silence: silence) {
            if let step = $0.progress { progress(step) }
        }
        guard last.phases != nil else { throw incomplete(method) }
        return last
    }

    func setPace(_ bytesPerSecond: UInt64?, timeout: Duration) throws(ControlError) {
        _ = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.SetPace.method, HolderInterface.Pace(bytesPerSecond: bytesPerSecond),
                as: NoParameters.self, timeout: timeout)
        }
    }

    /// A call with several replies: the last one is returned, the others go to `step`.
    /// - Parameters:
    ///   - descriptor: goes with the call.
    ///   - silence: how long nothing may be heard.
    ///   - isWanted: asked before each further reply; without it the connection is closed, which tells the holder.
    private func following<Reply: Decodable>(
        _ method: String, _ parameters: some Encodable, descriptor: RetainedDescriptor? = nil, silence: Duration,
        while isWanted: () -> Bool = { true }, step: (Reply) -> Void
    ) throws(ControlError) -> Reply {
        var last: Reply?
        try calling(silence) { (client: VarlinkClient) throws(VarlinkClientError) in
            // The number is good as long as its owner lives, which must be until the message has left.
            defer { withExtendedLifetime(descriptor) {} }
            try client.callMore(
                method, parameters, as: Reply.self, descriptors: descriptor.map { [$0.rawValue] } ?? [],
                timeout: silence, while: isWanted
            ) { reply, isLast in
                if isLast { last = reply } else { step(reply) }
            }
        }
        guard let last else { throw incomplete(method) }
        return last
    }

    private func calling<Result>(
        _ timeout: Duration, _ body: (VarlinkClient) throws(VarlinkClientError) -> Result
    ) throws(ControlError) -> Result {
        var client: VarlinkClient?
        do throws(VarlinkClientError) {
            let usable =
                if let known = idle.take() {
                    known
                } else {
                    try VarlinkClient.connect(socket, limits: Self.limits, timeout: min(timeout, .seconds(2)))
                }
            client = usable
            let result = try body(usable)
            idle.putBack(usable)
            return result
        } catch {
            throw failure(of: error, client)
        }
    }

    /// What a call's failure is to who asked for it. The connection is used again where it can be.
    func failure(of error: VarlinkClientError, _ client: VarlinkClient?) -> ControlError {
        guard case .reply(let reply) = error else { return .holderFailed(name: name, reason: "\(error)") }
        // An error reply is an answer like any other.
        if let client { idle.putBack(client) }
        let refusal = ControlError(reply)
        guard case .other = refusal else { return refusal }
        return .holderFailed(name: name, reason: "\(refusal)")
    }

    private func incomplete(_ method: String) -> ControlError {
        .holderFailed(name: name, reason: "its answer to \(method) is incomplete")
    }
}
