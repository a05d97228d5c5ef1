internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Terms
internal import Varlink

/// Calls of io.tdxd.Holder on one holder. Each call has a connection to itself, so that a long one does not make others
/// wait; one that is over leaves it to the next. All of them block, up to their time-outs. What an answer says is checked
/// against what the TD can have.
struct HolderLink: Sendable {
    /// Where connections come from.
    enum Source: Sendable {
        /// The path of the holder's socket: tdxd connects as often as it needs to.
        case path(String)
        /// The holder has made them, and makes more when it wants to be called again.
        case given(GivenConnections)
    }

    /// The TD's name, for errors.
    let name: String
    let source: Source
    let claims: HolderClaims
    private let idle = IdleConnections()
    /// For tdxd's own part in the end of the TD.
    let reserved = ReservedConnections()

    init(_ record: DomainRecord, _ source: Source) {
        name = record.name
        claims = HolderClaims(record)
        self.source = source
    }

    /// Of a TD whose record is not known.
    init(name: String, guestBytes: UInt64, _ source: Source) {
        self.name = name
        claims = HolderClaims(guestBytes: guestBytes)
        self.source = source
    }

    /// Takes over connections that the holder has made; ignored where tdxd makes them.
    func add(_ connections: [VarlinkClient]) {
        if case .given(let given) = source { given.add(connections) }
    }

    /// Pages by state where they can be the TD's; nil otherwise.
    func checked(_ pages: SIMD4<UInt64>?) -> SIMD4<UInt64>? { pages.flatMap { claims.admit($0) ? $0 : nil } }

    /// - Throws: `holderFailed` that names the number and what it can be.
    func checking(_ body: () throws(Refusal) -> Void) throws(ControlError) {
        do throws(Refusal) { try body() } catch {
            throw .holderFailed(name: name, reason: "its answer is not credible: \(error)")
        }
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
            guard case .path(let socket) = source else { return }
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
        guard case .path(let socket) = source,
            let client = try? VarlinkClient.connect(socket, timeout: .seconds(2)), let peer = try? client.peer()
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
        ) { if let step = $0.progress, (try? claims.check(step)) != nil { progress(step) } }
        guard let description = last.description else { throw incomplete("Build") }
        try checking { () throws(Refusal) in try claims.check(description) }
        return description
    }

    func describe(timeout: Duration) throws(ControlError) -> HolderInterface.Description {
        let description = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Describe.method, as: HolderInterface.Describe.Reply.self, timeout: timeout)
        }.description
        try checking { () throws(Refusal) in try claims.check(description) }
        return description
    }

    /// - Parameters:
    ///   - silence: how long nothing may be heard.
    ///   - isLeft: asked whenever there is progress; the conversion then ends between two chunks.
    func convert(
        _ parameters: HolderInterface.Convert.Parameters, silence: Duration, isLeft: () -> Bool,
        progress: (HolderInterface.Convert.Reply) -> Void
    ) throws(ControlError) -> HolderInterface.Convert.Reply {
        let method = HolderInterface.Convert.method
        let reply: HolderInterface.Convert.Reply =
            if parameters.bytes > HolderInterface.Convert.chunkBytes {
                try following(method, parameters, silence: silence, while: { !isLeft() }) { step in
                    if (try? claims.check(step)) != nil { progress(step) }
                }
            } else {
                try calling(silence) { (client: VarlinkClient) throws(VarlinkClientError) in
                    try client.call(method, parameters, timeout: silence)
                }
            }
        try checking { () throws(Refusal) in try claims.check(reply) }
        return reply
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
                putBack(client)
                do throws(ControlError) {
                    try checking { () throws(Refusal) in try claims.check(reply) }
                    then(.success(reply))
                } catch {
                    then(.failure(error))
                }
            case .failure(let error): then(.failure(failure(of: error, client)))
            }
        }
    }

    func map(timeout: Duration) throws(ControlError) -> [MemoryRun] {
        let runs = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(HolderInterface.Map.method, as: HolderInterface.Map.Reply.self, timeout: timeout)
        }.runs
        try checking { () throws(Refusal) in try claims.check(runs) }
        return runs
    }

    func mapChanges(
        _ parameters: HolderInterface.MapChanges.Parameters, timeout: Duration
    ) throws(ControlError) -> HolderInterface.MapChanges.Reply {
        let changes: HolderInterface.MapChanges.Reply = try calling(timeout) {
            (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(HolderInterface.MapChanges.method, parameters, timeout: timeout)
        }
        try checking { () throws(Refusal) in try claims.check(changes: changes.runs, isSnapshot: changes.snapshot) }
        return changes
    }

    func conversions(last: Int, timeout: Duration) throws(ControlError) -> HolderInterface.Conversions.Reply {
        let found: HolderInterface.Conversions.Reply = try calling(timeout) {
            (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Conversions.method, HolderInterface.Conversions.Parameters(last: Int64(last)),
                timeout: timeout)
        }
        try checking { () throws(Refusal) in try claims.check(found) }
        return found
    }

    func verify(reclaim: Bool, timeout: Duration) throws(ControlError) -> HolderInterface.Verify.Reply {
        let found: HolderInterface.Verify.Reply = try calling(timeout) {
            (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.Verify.method, HolderInterface.Verify.Parameters(reclaim: reclaim), timeout: timeout)
        }
        try checking { () throws(Refusal) in try claims.check(found) }
        return found
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
            var found: (size: ByteCount, identity: FileIdentity)?
            try checking { () throws(Refusal) in found = try claims.checkBacking(descriptor, claimed: file.inode) }
            guard let found else { throw incomplete("GetBacking") }
            files.append(
                Backing.File(
                    side: file.kind, size: found.size, identity: found.identity,
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
        let plan: HolderInterface.PlanStop.Reply = try calling(timeout) {
            (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(
                HolderInterface.PlanStop.method, HolderInterface.PlanStop.Parameters(policy: policy.rawValue),
                timeout: timeout)
        }
        try checking { () throws(Refusal) in try claims.check(plan) }
        return plan
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
                    switch source {
                    case .path(let socket):
                        try VarlinkClient.connect(socket, limits: Self.limits, timeout: min(timeout, .seconds(2)))
                    case .given(let connections): try connections.take(within: timeout)
                    }
                }
            client = usable
            let result = try body(usable)
            putBack(usable)
            return result
        } catch {
            throw failure(of: error, client)
        }
    }

    /// What a call's failure is to who asked for it. The connection is used again where it can be.
    func failure(of error: VarlinkClientError, _ client: VarlinkClient?) -> ControlError {
        guard case .reply(let reply) = error else { return .holderFailed(name: name, reason: "\(error)") }
        // An error reply is an answer like any other.
        if let client { putBack(client) }
        let refusal = ControlError(reply)
        guard case .other = refusal else { return refusal }
        return .holderFailed(name: name, reason: "\(refusal)")
    }

    /// A connection for a call that lasts, without waiting for one; nil where there is none to spare.
    func takeAtOnce() -> VarlinkClient? {
        switch source {
        case .path(let socket):
            idle.take() ?? (try? VarlinkClient.connect(socket, limits: Self.limits, timeout: .zero))
        case .given(let connections): connections.takeSpare()
        }
    }

    func putBack(_ client: VarlinkClient) {
        switch source {
        case .path: idle.putBack(client)
        case .given(let connections): connections.putBack(client)
        }
    }

    func incomplete(_ method: String) -> ControlError {
        .holderFailed(name: name, reason: "its answer to \(method) is incomplete")
    }
}
