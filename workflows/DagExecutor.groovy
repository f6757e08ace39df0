package org.pytorch.serve.ensemble

import groovy.transform.CompileStatic
import java.util.concurrent.BlockingQueue
import java.util.concurrent.CompletableFuture
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import org.pytorch.serve.http.InternalServerException
import org.pytorch.serve.http.ServiceUnavailableException
import org.pytorch.serve.job.RestJob
import org.pytorch.serve.util.messages.InputParameter
import org.pytorch.serve.util.messages.RequestInput
import org.pytorch.serve.util.messages.WorkerCommands
import org.pytorch.serve.wlm.ModelManager
import org.slf4j.Logger
import org.slf4j.LoggerFactory

/**
 * Runs a workflow's nodes for one request, in place of TorchServe 0.12.0's class of this name.
 *
 * That one queues a node's job first, and gives it the promise of its answer second. A worker that answers in between
 * answers nobody: the request waits until its time-out and fails, and its pool of threads is never shut down. Here the
 * promise is there before the job is queued, and a request has no threads of its own.
 */
@CompileStatic
class DagExecutor {

    private static final Logger LOGGER = LoggerFactory.getLogger(DagExecutor)

    private final Dag dag

    DagExecutor(Dag dag) {
        this.dag = dag
    }

    /**
     * @param input the request: its headers reach every node, its parameters the first one
     * @param order null; or a list that is given the nodes' names in the order in which they run, and none runs
     * @return the answers of the nodes that have no successor
     */
    ArrayList<NodeOutput> execute(RequestInput input, ArrayList<String> order) {
        Map<String, byte[]> answers = [:]
        for (List<String> nodes : levels()) {
            order?.addAll(nodes)
            if (order == null) {
                run(nodes, input, answers)
            }
        }
        ArrayList<NodeOutput> last = []
        for (String node : dag.getLeafNodeNames()) {
            last.add(new NodeOutput(node, answers.get(node)))
        }
        return last
    }

    /** The nodes without a predecessor; then, again and again, those whose predecessors have all been named. */
    private List<List<String>> levels() {
        List<List<String>> levels = []
        Map<String, Integer> missing = dag.getInDegreeMap()
        List<String> ready = new ArrayList<String>(dag.getStartNodeNames())
        while (!ready.isEmpty()) {
            levels.add(ready)
            List<String> next = []
            for (String node : ready) {
                for (String successor : dag.getDagMap().get(node).get('outDegree')) {
                    missing.put(successor, missing.get(successor) - 1)
                    if (missing.get(successor) == 0) {
                        next.add(successor)
                    }
                }
            }
            ready = next
        }
        return levels
    }

    /** Queues a job for each of the nodes, then waits for their answers and adds them to those that there are. */
    private void run(List<String> nodes, RequestInput input, Map<String, byte[]> answers) {
        List<BlockingQueue<Object>> waiting = []
        for (String node : nodes) {
            RequestInput request = new RequestInput(UUID.randomUUID().toString())
            request.setHeaders(input.getHeaders())
            request.setParameters(parameters(node, input, answers))
            waiting.add(queue(dag.getNodes().get(node).getWorkflowModel(), request))
        }
        for (int i = 0; i < nodes.size(); i++) {
            answers.put(nodes.get(i), answer(nodes.get(i), waiting.get(i)))
        }
    }

    private List<InputParameter> parameters(String node, RequestInput input, Map<String, byte[]> answers) {
        Set<String> predecessors = dag.getDagMap().get(node).get('inDegree')
        List<InputParameter> parameters = []
        for (String one : predecessors) {
            parameters.add(new InputParameter(predecessors.size() == 1 ? 'body' : one, answers.get(one)))
        }
        return predecessors.isEmpty() ? input.getParameters() : parameters
    }

    /**
     * @return takes the node's answer, or why there is none. To take from it lets the common pool, whose thread this may
     *     be, start another thread meanwhile; to wait for the promise itself would start the next request on top of this
     *     one.
     */
    private static BlockingQueue<Object> queue(WorkflowModel model, RequestInput request) {
        BlockingQueue<Object> answer = new LinkedBlockingQueue<Object>()
        CompletableFuture<byte[]> promise = new CompletableFuture<byte[]>()
        promise.orTimeout(model.getTimeOutMs(), TimeUnit.MILLISECONDS).whenComplete { byte[] data, Throwable fault ->
            answer.add(fault == null ? data : fault)
        }
        RestJob job = new RestJob(null, model.getName(), null, WorkerCommands.PREDICT, request)
        job.setResponsePromise(promise)
        if (!ModelManager.getInstance().addJob(job)) {
            throw new ServiceUnavailableException("the model ${model.getName()} has no worker, or its queue is full")
        }
        return answer
    }

    private static byte[] answer(String node, BlockingQueue<Object> waiting) {
        Object answer = waiting.take()
        if (answer instanceof Throwable) {
            LOGGER.error('{} : {}', node, answer.toString())
            throw new InternalServerException("the workflow's node ${node} gave no answer")
        }
        return (byte[]) answer
    }
}
