internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import Terms
internal import Varlink

/// Calls of io.tdxd.Holder on one holder. Each call has a connection to itself, so that a long one does not make others
/// wait; one that is over leaves it to the next. All of them block, up to their time-outs. What an answer contains is checked
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

    /// The server of the socket; nil when there is none.
    func servingProcess() -> Int32? {
        guard case .path(let socket) = source,
            let client = try? VarlinkClient.connect(socket, timeout: .seconds(2)), let peer = try? client.peer()
        else {
            return nil
        }
        return peer.pid
    }

    // MARK: Calls

    /// A call with one reply.
    /// - Throws: what the holder answers; `holderFailed` where it does not, or where its reply is not credible.
    func call<Method: ControlMethod>(
        _: Method.Type, _ parameters: Method.Parameters, within timeout: Duration
    ) throws(ControlError) -> Method.Reply where Method.Reply: HolderReply {
        let reply = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.call(Method.method, parameters, as: Method.Reply.self, timeout: timeout)
        }
        try checking { () throws(Refusal) in try reply.check(claims) }
        return reply
    }

    func call<Method: ControlMethod>(
        _ method: Method.Type, within timeout: Duration
    ) throws(ControlError) -> Method.Reply where Method.Reply: HolderReply, Method.Parameters == NoParameters {
        try call(method, NoParameters(), within: timeout)
    }

    /// A call with one reply, which the event loop waits for. On the loop's thread.
    ///
    /// - Parameters:
    ///   - client: a connection that no other call uses; it is put back.
    ///   - then: called once on the loop, unless this returned false.
    /// - Returns: false where the call cannot be sent at once: nothing was asked.
    func call<Method: ControlMethod>(
        _: Method.Type, _ parameters: Method.Parameters, on client: VarlinkClient, within timeout: Duration,
        _ loop: EventLoop, then: @escaping (Result<Method.Reply, ControlError>) -> Void
    ) -> Bool where Method.Reply: HolderReply {
        client.call(Method.method, parameters, as: Method.Reply.self, timeout: timeout, on: loop) { [self] result in
            switch result {
            case .success(let reply):
                putBack(client)
                do throws(ControlError) {
                    try checking { () throws(Refusal) in try reply.check(claims) }
                    then(.success(reply))
                } catch {
                    then(.failure(error))
                }
            case .failure(let error): then(.failure(failure(of: error, client)))
            }
        }
    }

    /// What the holder has built.
    struct Built {
        var description: HolderInterface.Description
        /// Duplicates of the TD's backing files.
        var backing: Backing
        /// Pages by state.
        var figures: FigureReader
    }

    func build(
        _ parameters: HolderInterface.Build.Parameters, firmware: RetainedDescriptor?, silence: Duration,
        progress: (Progress) -> Void
    ) throws(ControlError) -> Built {
        let last = try following(
            HolderInterface.Build.self, parameters, descriptor: firmware, silence: silence
        ) { if let step = $0.progress { progress(step) } }
        guard let description = last.reply.description, let files = last.reply.files else {
            throw incomplete("Build")
        }
        let backing = try backing(files, last.descriptors, "Build")
        return Built(
            description: description, backing: backing, figures: try figures(last.descriptors.takeFirst(), "Build"))
    }

    func describe(timeout: Duration) throws(ControlError) -> HolderInterface.Description {
        try call(HolderInterface.Describe.self, within: timeout).description
    }

    /// - Parameters:
    ///   - silence: how long nothing may be heard.
    ///   - isLeft: asked whenever there is progress; the conversion then ends between two chunks.
    func convert(
        _ parameters: HolderInterface.Convert.Parameters, silence: Duration, isLeft: () -> Bool,
        progress: (HolderInterface.Convert.Reply) -> Void
    ) throws(ControlError) -> HolderInterface.Convert.Reply {
        guard parameters.bytes.size > HolderInterface.Convert.chunk else {
            return try call(HolderInterface.Convert.self, parameters, within: silence)
        }
        return try following(
            HolderInterface.Convert.self, parameters, silence: silence, while: { !isLeft() }, step: progress
        ).reply
    }

    /// As `convert`, of so little that no progress is reported; the event loop waits for the answer. On the loop's thread.
    /// - Parameter then: called once on the loop, unless this returned false.
    /// - Returns: false where no connection is at hand: nothing was asked, and a thread that may wait has to do it.
    func convert(
        _ parameters: HolderInterface.Convert.Parameters, silence: Duration, on loop: EventLoop,
        then: @escaping (Result<HolderInterface.Convert.Reply, ControlError>) -> Void
    ) -> Bool {
        guard let client = idle.take() else { return false }
        return call(HolderInterface.Convert.self, parameters, on: client, within: silence, loop, then: then)
    }

    /// Asks for the changes after `since`, and has the event loop wait for the answer. On the loop's thread.
    ///
    /// - Parameters:
    ///   - wait: how long the holder waits for a change.
    ///   - silence: how long after that nothing may be heard.
    ///   - then: called once on the loop, unless this returned false.
    /// - Returns: false where the holder cannot be asked at once.
    func followMap(
        since: ChangeNumber, wait: ChangeWait, silence: Duration, on loop: EventLoop,
        then: @escaping (Result<HolderInterface.MapChanges.Reply, ControlError>) -> Void
    ) -> Bool {
        guard let client = takeAtOnce() else { return false }
        return call(
            HolderInterface.MapChanges.self, .init(since: since, waitMilliseconds: wait), on: client,
            within: wait.duration + silence, loop, then: then)
    }

    /// Duplicates of the TD's backing files.
    func backing(timeout: Duration) throws(ControlError) -> Backing {
        let answer = try calling(timeout) { (client: VarlinkClient) throws(VarlinkClientError) in
            try client.callWithDescriptors(
                HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self, timeout: timeout)
        }
        return try backing(answer.reply.files, answer.descriptors, "GetBacking")
    }

    /// Each file is checked to be what the holder describes it as.
    private func backing(
        _ claimed: [HolderInterface.BackingFile], _ descriptors: ReceivedDescriptors, _ method: String
    ) throws(ControlError) -> Backing {
        var files: [Backing.File] = []
        for file in claimed {
            guard let descriptor = descriptors.takeFirst() else { throw incomplete(method) }
            var found: (size: ByteCount, identity: FileIdentity)?
            try checking { () throws(Refusal) in found = try claims.checkBacking(descriptor, claimed: file.inode) }
            guard let found else { throw incomplete(method) }
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
        return try figures(answer.descriptors.takeFirst(), "GetFigures")
    }

    private func figures(
        _ descriptor: consuming OwnedDescriptor?, _ method: String
    ) throws(ControlError) -> FigureReader {
        guard let descriptor = descriptor.take() else { throw incomplete(method) }
        do throws(LinuxError) { return try FigureReader(descriptor) } catch {
            throw .holderFailed(name: name, reason: "\(error)")
        }
    }

    /// The ranges that are private or in transition, as bytes that no process can change any more, and the number of the
    /// last change of the map in them.
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
        try call(HolderInterface.PlanStop.self, .init(policy: policy), within: timeout)
    }

    /// A call with several replies: the last one is returned, the others go to `step`.
    /// - Parameters:
    ///   - descriptor: goes with the call.
    ///   - silence: how long nothing may be heard.
    ///   - isWanted: asked before each further reply; without it the connection is closed, which the holder sees.
    private func following<Method: ControlMethod>(
        _: Method.Type, _ parameters: Method.Parameters, descriptor: RetainedDescriptor? = nil, silence: Duration,
        while isWanted: () -> Bool = { true }, step: (Method.Reply) -> Void
    ) throws(ControlError) -> VarlinkClient.ReplyWithDescriptors<Method.Reply> where Method.Reply: HolderReply {
        var last: VarlinkClient.ReplyWithDescriptors<Method.Reply>?
        try calling(silence) { (client: VarlinkClient) throws(VarlinkClientError) in
            // The number is good as long as its owner lives, which must be until the message has left.
            defer { withExtendedLifetime(descriptor) {} }
            try client.callMoreWithDescriptors(
                Method.method, parameters, as: Method.Reply.self, descriptors: descriptor.map { [$0.rawValue] } ?? [],
                timeout: silence, while: isWanted
            ) { answer, isLast in
                // A step that is not credible is left out; what counts is the last reply.
                if isLast { last = answer } else if (try? answer.reply.check(claims)) != nil { step(answer.reply) }
            }
        }
        guard let last else { throw incomplete(Method.method) }
        try checking { () throws(Refusal) in try last.reply.check(claims) }
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

extension HolderInterface.Reclaim.Parameters {
    /// - Parameters: what a client or the configuration gave, checked.
    init(bytesPerSecond: UInt64?, chunkBytes: UInt64?) {
        self.init(
            bytesPerSecond: bytesPerSecond.map { ReleaseRate(unchecked: Int64(clamping: $0)) },
            chunkBytes: chunkBytes.map { ReleaseChunk(unchecked: Int64(clamping: $0)) })
    }
}

extension HolderInterface.SetPace.Parameters {
    init(bytesPerSecond: UInt64?) {
        self.init(bytesPerSecond: bytesPerSecond.map { ReleaseRate(unchecked: Int64(clamping: $0)) })
    }
}

/// Connections to one holder that no call uses at the moment. Making one costs both sides more than a small call does.
final class IdleConnections: Sendable {
    /// More than this are not worth the descriptors.
    static let most = 2

    private let clients = Mutex<[VarlinkClient]>([])

    /// Nil when there is none.
    func take() -> VarlinkClient? { clients.withLock { $0.popLast() } }

    /// - Parameter client: whose last call has been answered.
    func putBack(_ client: VarlinkClient) {
        clients.withLock { clients in
            if clients.count < Self.most { clients.append(client) }
        }
    }
}
