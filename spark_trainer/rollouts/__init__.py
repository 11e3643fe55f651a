"""How a model that learns from rewards answers the prompts of an update, and learns its answers.

reading     what workers read: questions
base        what a rollout gives, whoever generates
in_process  answers of the network in training, in its own process
served      answers of a vLLM server
handover    the weights of the moment, given to such a server
vllm        the requests that it takes
drawing     tokens from numbers that depend on nothing but the answer and the place in it
learning    batches of answers, and the probabilities that the network gives to their tokens
"""
